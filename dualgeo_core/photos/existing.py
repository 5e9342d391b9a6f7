"""The contents of a photo set to which photos are added. Its files are not modified."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualgeo_core.base.csv_files import from_text, read_csv
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import read_json, replace_folder
from dualgeo_core.base.frames import read_parquet
from dualgeo_core.photos.photo_set import MANIFEST, QUARANTINE, REMEDY

Fault = tuple[str, str]  # a photo's id, and the reason why it was refused


@dataclass(frozen=True)
class ExistingSet:
    """A set's manifest, the ids of its photos and its quarantine. All are empty for a new set."""

    manifest: dict[str, Any] = field(default_factory=lambda: {"shards": {}})
    ids: frozenset[str] = frozenset()
    quarantine: tuple[Fault, ...] = ()

    @property
    def shards(self) -> dict[str, str]:
        """The digest of each shard, by file name."""
        return dict(self.manifest["shards"])

    @property
    def next_shard(self) -> int:
        """The first unused shard number."""
        return 1 + max((int(Path(name).stem.removeprefix("photos-")) for name in self.shards), default=-1)


def open_existing(out: Path) -> ExistingSet:
    """The set at `out`. Raises InputError if there is none, or if its quarantine is damaged.

    If an ingest was killed while it replaced the set, its finished set is moved into place first.
    """
    made = partial_folder(out) / "set"
    if not out.exists() and (made / MANIFEST).is_file():
        replace_folder(made, out)
    if not (out / MANIFEST).is_file():
        raise InputError(f"there is no photo set {out} to add to; ingest it first, without --add")
    manifest = read_json(out / MANIFEST)
    table = read_csv(out / QUARANTINE, dtype=str, keep_default_na=False)
    quarantine = tuple(zip(table["id"].map(from_text), table["reason"], strict=True))
    return ExistingSet(manifest=manifest, ids=ids_of(out, manifest["shards"]), quarantine=quarantine)


def partial_folder(out: Path) -> Path:
    """The working folder of the set `out`. Its subfolder `set` has a manifest only when it is complete."""
    return out.with_name(f"{out.name}.partial")


def members_file(out: Path) -> Path:
    """The table of the members of the tar that `out` was made from. It saves scanning the tar again."""
    return out.with_name(f"{out.name}.members")


def ids_of(folder: Path, shards: Iterable[str]) -> frozenset[str]:
    """The ids of all photos in these shards."""
    return frozenset(
        photo_id for name in shards for photo_id in read_parquet(folder / name, columns=["id"], remedy=REMEDY)["id"]
    )
