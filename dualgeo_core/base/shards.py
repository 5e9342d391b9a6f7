"""Per-photo results, one file per shard. A build resumes, and reuses shards whose inputs are unchanged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import (
    FINGERPRINT_FILE,
    atomic_file,
    fingerprint,
    read_fingerprint,
    read_json,
    replace_folder,
    take_over,
    write_json,
)
from dualgeo_core.base.progress import Progress, silent

Advance = Callable[[int], None]


class ShardKey(NamedTuple):
    """One file of a folder: its stem, the fingerprint of its inputs, and the numbers of its rows in the frame."""

    name: str
    fingerprint: str
    rows: range


class Sharded(Protocol):
    """A source whose shards are processed one by one: photos, or their views."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def shard_keys(self) -> tuple[ShardKey, ...]: ...


def folder_signature(recipe: str, source: Sharded) -> str:
    """The fingerprint of a folder that `recipe` computes from `source`."""
    return fingerprint(recipe, source.fingerprint)


def build_shards(
    *,
    folder: Path,
    recipe: str,
    source: Sharded,
    suffix: str,
    write: Callable[[ShardKey, Path, Advance], None],
    facts: dict[str, Any],
    progress: Progress = silent,
) -> dict[str, int]:
    """Fills `folder` by calling `write(key, path, advance)` for every shard of `source`.

    Shards that `folder` or a killed build already holds for the same recipe and photos are reused, so only new shards
    are computed. `facts` are stored next to the fingerprint. `write` calls `advance(done)` with the number of photos
    of its shard that are done so far. Returns two counts of photos: `computed` in this call, and `taken_over` from
    existing shards.
    """
    keys = [key for key in source.shard_keys if key.rows]
    total = sum(len(key.rows) for key in keys)
    signature = folder_signature(recipe, source)
    signatures = {key.name: fingerprint(recipe, key.fingerprint) for key in keys}
    signed = {"fingerprint": signature, "count": total, "shards": signatures, **facts}
    if read_fingerprint(folder) is not None and read_json(folder / FINGERPRINT_FILE) == signed:
        return {"computed": 0, "taken_over": total}
    partial = folder.with_name(f"{folder.name}.partial")
    _clear(partial, wanted=signatures)
    write_json(partial / FINGERPRINT_FILE, signed)
    _link_finished(folder, partial, wanted=signatures)
    computed, what = 0, folder.parent.name
    for key in keys:
        target = partial / f"{key.name}.{suffix}"
        if not target.exists():
            with atomic_file(target) as temporary:
                write(key, temporary, _advance(progress, what, key.rows.start, total))
            computed += len(key.rows)
        progress(what, key.rows.stop, total)
    replace_folder(partial, folder)
    return {"computed": computed, "taken_over": total - computed}


def read_record(folder: Path, *, photos: str, step: str) -> dict[str, Any]:
    """The record that `build_shards` wrote in `folder`; reads no shard. `photos` is the expected fingerprint.

    Raises InputError, naming the `step` to run, if the folder is unfinished or was made from other photos.
    """
    if read_fingerprint(folder) is None:
        raise InputError(f"{folder} is missing or unfinished: run the step {step}")
    record: dict[str, Any] = read_json(folder / FINGERPRINT_FILE)
    if record.get("photos") != photos:
        raise InputError(f"{folder} was made from other photos than the set holds now: run the step {step} again")
    return record


def shard_signatures(folder: Path) -> dict[str, str]:
    """The input fingerprint of each shard of a finished or partial folder, by file stem."""
    path = folder / FINGERPRINT_FILE
    return dict(read_json(path).get("shards", {})) if path.is_file() else {}


def _clear(partial: Path, wanted: dict[str, str]) -> None:
    """Removes shards of a killed build that are not wanted now, and its unfinished files."""
    kept = {name for name, _ in shard_signatures(partial).items() & wanted.items()}
    for file in partial.rglob("*"):
        # The signatures are kept until they are replaced: without them no remaining shard could be reused.
        if file.is_file() and file.stem not in kept and file.name != FINGERPRINT_FILE:
            file.unlink()


def _link_finished(folder: Path, partial: Path, wanted: dict[str, str]) -> None:
    """Links the files of each shard in `folder` that is still wanted, including derived files in subfolders."""
    kept = {name for name, _ in shard_signatures(folder).items() & wanted.items()}
    for file in folder.rglob("*"):
        target = partial / file.relative_to(folder)
        if file.stem in kept and not target.exists():
            take_over(file, target)


def _advance(progress: Progress, what: str, done_before: int, total: int) -> Advance:
    return lambda done: progress(what, done_before + done, total)
