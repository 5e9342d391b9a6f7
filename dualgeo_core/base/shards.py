"""Per-photo results, one file per shard. A build resumes, and reuses shards whose inputs are unchanged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dualgeo_core.base.artifacts import Artifact, read_record, write_record
from dualgeo_core.base.digests import FileDigest, digest_file, is_intact
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import (
    atomic_file,
    fingerprint,
    one_builder,
    read_json,
    replace_folder,
    take_over,
    write_json,
)
from dualgeo_core.base.progress import Progress, silent

PLAN = "plan.json"
Advance = Callable[[int], None]


class ShardKey(NamedTuple):
    """One file of a folder: its stem, a fingerprint of what its rows are made from, and their numbers in the frame."""

    name: str
    fingerprint: str
    rows: range


Write = Callable[[ShardKey, Path, Advance], None]  # writes a shard to a path, and tells how many rows are done


class Sharded(Protocol):
    """What files are computed from, shard by shard: photos, or their views."""

    @property
    def shard_keys(self) -> tuple[ShardKey, ...]: ...


class Keys(NamedTuple):
    """A source that is known by its shards alone."""

    shard_keys: tuple[ShardKey, ...]


class ShardTask(NamedTuple):
    """A shard to write: its key, its file, and the fingerprint of everything that it is made from."""

    key: ShardKey
    path: Path
    made_from: str


class Engine(Protocol):
    """Who writes shards: yields each task as it is finished, in any order, with the digest of its file."""

    def __call__(
        self, tasks: Sequence[ShardTask], write: Write, advance: Advance
    ) -> Iterator[tuple[ShardTask, FileDigest]]: ...


def in_this_process(
    tasks: Sequence[ShardTask], write: Write, advance: Advance
) -> Iterator[tuple[ShardTask, FileDigest]]:
    """The engine that writes one shard after another with `write`."""
    for task in tasks:
        yield task, write_shard(task, write, advance)


def write_shard(task: ShardTask, write: Write, advance: Advance) -> FileDigest:
    """Writes the shard of a task, unless its file is there; returns the file's digest.

    Raises InputError if the folder's plan wants another shard by then: another build has begun since.
    """
    if not task.path.exists():
        with atomic_file(task.path) as temporary:
            write(task.key, temporary, advance)
            if _plan(task.path.parent).get(task.path.name) != task.made_from:
                raise InputError(f"{task.path.parent} is now built from other inputs; run the step again")
    return digest_file(task.path)


def build_shards(
    artifact: Artifact,
    *,
    source: Sharded,
    shard_recipe: str,
    suffix: str,
    write: Write,
    facts: Mapping[str, Any],
    engine: Engine = in_this_process,
    progress: Progress = silent,
) -> dict[str, int]:
    """Makes `artifact` of `write(key, path, advance)` for every shard of `source`.

    The artifact's recipe and `shard_recipe` identify what `write` does. A shard that the artifact or a killed build
    already holds, of the same recipes and rows, is reused if its bytes are intact: a grown source costs its new shards,
    and a current artifact nothing. `write` calls `advance(rows of this shard done so far)`. Only one process builds a
    folder at a time; another one waits, and then finds the artifact current. Returns how many rows were `computed` now
    and how many `taken_over`.
    """
    keys = [key for key in source.shard_keys if key.rows]
    with one_builder(artifact.path):
        total = sum(len(key.rows) for key in keys)
        if artifact.is_current():
            return {"computed": 0, "taken_over": total}
        wanted = {f"{key.name}.{suffix}": fingerprint(artifact.recipe, shard_recipe, key.fingerprint) for key in keys}
        partial = artifact.path.with_name(f"{artifact.path.name}.partial")
        _clear(partial, wanted)
        digests = _reuse_intact(artifact.path, partial, wanted)
        tasks = [
            ShardTask(key, partial / name, made_from)
            for key, (name, made_from) in zip(keys, wanted.items(), strict=True)
        ]
        missing = [task for task in tasks if not task.path.exists()]
        for name in wanted.keys() - digests.keys() - {task.path.name for task in missing}:
            digests[name] = digest_file(partial / name)
        computed = sum(len(task.key.rows) for task in missing)
        rows = _Rows(progress, artifact.path.parent.name, total=total, finished=total - computed)
        rows.tell(0)
        for task, digest in engine(missing, write, rows.tell):
            digests[task.path.name] = digest
            rows.finished += len(task.key.rows)
            rows.tell(0)
        write_record(partial, artifact, dict(sorted(digests.items())), {**facts, "count": total, "shards": wanted})
        (partial / PLAN).unlink()
        replace_folder(partial, artifact.path)
        return {"computed": computed, "taken_over": total - computed}


@dataclass
class _Rows:
    """The rows of finished shards, as progress reports tell them."""

    progress: Progress
    what: str
    total: int
    finished: int

    def tell(self, unfinished: int) -> None:
        """Reports progress, with the rows done of an unfinished shard."""
        self.progress(self.what, self.finished + unfinished, self.total)


def _clear(partial: Path, wanted: dict[str, str]) -> None:
    """Removes what a killed build left of other shards than are wanted now, and notes what is wanted."""
    planned = _plan(partial)
    for file in partial.iterdir() if partial.is_dir() else ():
        # The plan goes last, when it is replaced: without it no file here would be known any more.
        if file.name != PLAN and (file.name not in wanted or planned.get(file.name) != wanted[file.name]):
            file.unlink()
    write_json(partial / PLAN, wanted)


def _plan(partial: Path) -> dict[str, str]:
    """What each file of a killed build is made from, by its plan or its record; nothing if both are missing or cut."""
    if not (partial / PLAN).is_file() and (record := read_record(partial)):
        return dict(record.facts.get("shards", {}))
    try:
        return dict(read_json(partial / PLAN))
    except (InputError, ValueError, TypeError):
        return {}


def _reuse_intact(folder: Path, partial: Path, wanted: dict[str, str]) -> dict[str, FileDigest]:
    """Links each wanted shard that `folder` holds with intact bytes into `partial`; returns these shards' digests."""
    record = read_record(folder)
    reused: dict[str, FileDigest] = {}
    for name, made_from in (record.facts.get("shards", {}) if record else {}).items():
        if wanted.get(name) != made_from or record is None or not is_intact(folder / name, record.files[name]):
            continue
        if not (partial / name).exists():
            take_over(folder / name, partial / name)
            reused[name] = record.files[name]
    return reused
