"""What is computed once per photo: one file per photo shard, resumable, signed by the recipe that made it."""

import shutil
from collections.abc import Callable
from pathlib import Path

from dualgeo_core.files import atomic_file, read_fingerprint, read_json, replace_folder, write_fingerprint, write_json
from dualgeo_core.photos.photo_set import Photos, PhotoShard
from dualgeo_core.progress import Progress, silent


def build_shards(
    *,
    folder: Path,
    recipe: str,
    photos: Photos,
    suffix: str,
    write: Callable[[PhotoShard, Path], None],
    progress: Progress = silent,
) -> None:
    """Fills `folder` with `write(shard, path)` for every shard of `photos`; one signed with `recipe` is left as it is.

    A killed build goes on where it stopped; a folder or a partial build of another recipe is replaced, never mixed in.
    """
    if read_fingerprint(folder) == recipe:
        return
    partial = folder.with_name(f"{folder.name}.partial")
    if partial.exists() and not _made_by(partial, recipe):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_json(partial / "recipe.json", recipe)
    done = 0
    for shard in photos.shards():
        target = partial / f"{shard.name}.{suffix}"
        if shard.ids and not target.exists():
            with atomic_file(target) as temporary:
                write(shard, temporary)
        done += len(shard.ids)
        progress(folder.parent.name, done, len(photos))
    (partial / "recipe.json").unlink()
    write_fingerprint(partial, recipe, photos=len(photos))
    replace_folder(partial, folder)


def _made_by(partial: Path, recipe: str) -> bool:
    path = partial / "recipe.json"
    return path.is_file() and read_json(path) == recipe
