"""What is computed once per photo: one file per photo shard, resumable, signed by the recipe that made it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dualgeo_core.errors import InputError
from dualgeo_core.files import (
    FINGERPRINT_FILE,
    atomic_file,
    fingerprint,
    read_fingerprint,
    read_json,
    replace_folder,
    write_fingerprint,
    write_json,
)
from dualgeo_core.photos.photo_set import Photos, PhotoShard
from dualgeo_core.progress import Progress, silent

Advance = Callable[[int], None]


def build_shards(
    *,
    folder: Path,
    recipe: str,
    photos: Photos,
    suffix: str,
    write: Callable[[PhotoShard, Path, Advance], None],
    facts: dict[str, Any],
    progress: Progress = silent,
) -> None:
    """Fills `folder` with `write(shard, path, advance)` for every shard of `photos`, signed with recipe and photos.

    A finished folder is left as it is and a killed build goes on where it stopped; a folder or a partial build of
    another recipe or of other photos is replaced, never mixed in. `facts` are recorded beside the fingerprint;
    `write` calls `advance(photos of this shard done so far)` as it goes.
    """
    recipe = fingerprint(recipe, photos.fingerprint)
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
                write(shard, temporary, _advance(progress, folder.parent.name, done, len(photos)))
        done += len(shard.ids)
        progress(folder.parent.name, done, len(photos))
    (partial / "recipe.json").unlink()
    write_fingerprint(partial, recipe, photos=photos.fingerprint, count=len(photos), **facts)
    replace_folder(partial, folder)


def require_shards(folder: Path, *, photos: Photos, made_by: str) -> dict[str, Any]:
    """The fingerprint and facts of a folder that `build_shards` filled for these photos; raises InputError else."""
    if read_fingerprint(folder) is None:
        raise InputError(f"{folder} is not there or unfinished; materialize {made_by}")
    signed: dict[str, Any] = read_json(folder / FINGERPRINT_FILE)
    if signed.get("photos") != photos.fingerprint:
        raise InputError(
            f"{folder} was made of other photos than {photos.folder} now holds; materialize {made_by} again"
        )
    return signed


def _advance(progress: Progress, what: str, done_before: int, total: int) -> Advance:
    return lambda done: progress(what, done_before + done, total)


def _made_by(partial: Path, recipe: str) -> bool:
    path = partial / "recipe.json"
    return path.is_file() and read_json(path) == recipe
