"""Writes a photo set shard by shard. A killed run resumes. Unusable photos are listed with the reason."""

import csv
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dualgeo_core.base.csv_files import as_text
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import (
    atomic_file,
    file_digest,
    fingerprint,
    read_json,
    replace_folder,
    take_over,
    write_json,
)
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.targets import check_folder_target
from dualgeo_core.photos.existing import ExistingSet, Fault, ids_of, partial_folder
from dualgeo_core.photos.ids import id_fault, shown_id
from dualgeo_core.photos.photo_set import MANIFEST, QUARANTINE

SHARD_BYTES = 256 * 2**20
SHARD_PHOTOS = 1024
ROW_GROUP_BYTES = 16 * 2**20  # photos in memory, in addition to one batch
BATCH = 64

COLUMNS = {
    "id": pa.string(),
    "latitude": pa.float64(),
    "longitude": pa.float64(),
    "author": pa.string(),
    "taken": pa.timestamp("s", tz="UTC"),
    "image": pa.binary(),
}
IMAGE_COLUMNS = ("image", "label_map")
Entry = TypeVar("Entry")
Note = dict[str, Any]  # contents of a finished shard, and the entry at which the next shard begins


@dataclass(frozen=True)
class IngestedPhoto:
    """One photo to be written. With a `fault`, only its id is used, and both go to the quarantine.

    `taken` is the time of exposure; a time without a zone counts as UTC.
    """

    id: str
    latitude: float = float("nan")
    longitude: float = float("nan")
    author: str | None = None
    image: bytes = b""
    fault: str | None = None
    taken: datetime | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> dict[str, Any]:
        """The photo's values by column name."""
        return {name: getattr(self, name) for name in COLUMNS} | self.more


@dataclass(frozen=True)
class PhotoWriter(Generic[Entry]):
    """Writes the photo `read(entry)` of every entry to the set at `out`. The same entries give the same bytes.

    The shards of `existing` photos are kept unchanged, and the photos of the entries follow in new shards. Unfinished
    work is kept in `<out>.partial`, signed with `recipe`, which must change with anything that affects the result.
    `pool` reads the photos of a batch in parallel. `progress` receives the number of entries that are done.
    """

    out: Path
    recipe: str
    entries: Sequence[Entry]
    read: Callable[[Entry], IngestedPhoto]
    pool: Executor
    existing: ExistingSet = field(default_factory=ExistingSet)
    more_columns: dict[str, pa.DataType] = field(default_factory=dict)
    shard_photos: int = SHARD_PHOTOS
    progress: Progress = silent

    @property
    def partial(self) -> Path:
        return partial_folder(self.out)

    def write(self, *, max_quarantine_share: float) -> dict[str, Any]:
        """Writes the whole set and returns its manifest. An existing set that gains no photos is left unchanged.

        Raises InputError if `out` exists and is not a photo set, if no photo is usable, or if more than
        `max_quarantine_share` of all photos are unusable. `<out>.partial/set/quarantine.csv` then lists the reasons.
        """
        check_out(self.out)
        notes = self._resume()
        position = notes[-1]["next"] if notes else 0
        while position < len(self.entries):
            self.progress(self.out.name, position, len(self.entries))
            notes.append(self._write_shard(f"photos-{self.existing.next_shard + len(notes):05d}", position))
            position = notes[-1]["next"]
        manifest = self._finish(notes, max_quarantine_share)
        if manifest != self.existing.manifest:
            replace_folder(self.partial / "set", self.out)
        shutil.rmtree(self.partial)
        return manifest

    def _resume(self) -> list[Note]:
        """The notes of shards that an earlier run of the same recipe finished. Removes its other files."""
        recipe, folder = self.partial / "recipe.json", self.partial / "set"
        signature = fingerprint(self.recipe, self.existing.shards)
        notes = [read_json(path) for path in sorted(self.partial.glob("notes/photos-*.json"))]
        known = recipe.is_file() and read_json(recipe) == signature
        if not (known and all((folder / note["file"]).is_file() for note in notes if note["photos"])):
            notes = []
            shutil.rmtree(self.partial, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(recipe, signature)
        finished = {note["file"] for note in notes}
        for file in folder.iterdir():
            if file.name not in finished:
                file.unlink()
        return notes

    def _write_shard(self, name: str, start: int) -> Note:
        """Writes photos from entry `start` until the shard is full, then the note that marks it as finished."""
        path = self.partial / "set" / f"{name}.parquet"
        note: Note = {"file": path.name, "next": start, "photos": 0, "quarantine": []}
        with atomic_file(path) as temporary, self._parquet(temporary) as parquet:
            rows: list[dict[str, Any]] = []
            pending, written = 0, 0
            while (
                note["next"] < len(self.entries)
                and note["photos"] < self.shard_photos
                and written + pending < SHARD_BYTES
            ):
                for photo in self._next_batch(note):
                    if fault := id_fault(photo.id) or photo.fault:
                        note["quarantine"].append((shown_id(photo.id), fault))
                        continue
                    rows.append(photo.row)
                    pending += len(photo.image)
                    note["photos"] += 1
                if pending >= ROW_GROUP_BYTES:
                    parquet.write_table(pa.Table.from_pylist(rows, schema=parquet.schema))
                    written, pending, rows = written + pending, 0, []
            if rows:
                parquet.write_table(pa.Table.from_pylist(rows, schema=parquet.schema))
        if note["photos"]:
            note["digest"] = file_digest(path)
        else:
            path.unlink()
        write_json(self.partial / "notes" / f"{name}.json", note)
        return note

    def _next_batch(self, note: Note) -> list[IngestedPhoto]:
        start = note["next"]
        batch = self.entries[start : start + min(BATCH, self.shard_photos - note["photos"])]
        photos = list(self.pool.map(self.read, batch, chunksize=8))
        note["next"] = start + len(batch)
        self.progress(self.out.name, note["next"], len(self.entries))
        return photos

    def _parquet(self, path: Path) -> pq.ParquetWriter:
        schema = pa.schema({**COLUMNS, **self.more_columns})
        # Images are already compressed, and a dictionary of them would only use memory.
        small = [name for name in schema.names if name not in IMAGE_COLUMNS]
        compression = {name: "zstd" if name in small else "none" for name in schema.names}
        return pq.ParquetWriter(path, schema, compression=compression, use_dictionary=small, write_page_checksum=True)

    def _finish(self, notes: list[Note], max_share: float) -> dict[str, Any]:
        """Adds quarantine, old shards and manifest to the set. Raises InputError if too few photos are usable."""
        folder = self.partial / "set"
        shards = {note["file"]: note["digest"] for note in notes if note["photos"]}
        earlier, new = self._faults(notes, taken_in=ids_of(folder, shards) if self.existing.quarantine else set())
        if self.existing.ids and not shards and not new:
            return self.existing.manifest
        quarantine = earlier + new
        _write_quarantine(folder / QUARANTINE, quarantine)
        if not shards:
            reasons = _summary(new) or "no photo was found"
            raise InputError(f"there is no usable photo for {self.out} ({reasons}); fix the source")
        photos = len(self.existing.ids) + sum(note["photos"] for note in notes)
        share = len(quarantine) / (photos + len(quarantine))
        if share > max_share:
            raise InputError(
                f"{len(quarantine)} of {photos + len(quarantine)} photos for {self.out} are unusable "
                f"({_summary(quarantine)}): {share:.1%} exceeds the allowed {max_share:.1%}; "
                f"fix the photos listed in {folder / QUARANTINE} or raise --max-quarantine-share"
            )
        for name in self.existing.shards:
            take_over(self.out / name, folder / name)
        manifest = {
            "shards": self.existing.shards | shards,
            "photos": photos,
            "quarantined": len(quarantine),
            "quarantine_reasons": _reasons(quarantine),
        }
        write_json(folder / MANIFEST, manifest)
        return manifest

    def _faults(self, notes: list[Note], taken_in: Set[str]) -> tuple[list[Fault], list[Fault]]:
        """Photos of the existing quarantine that are still refused, and photos refused for the first time."""
        earlier = [(photo_id, fault) for photo_id, fault in self.existing.quarantine if photo_id not in taken_in]
        known = set(self.existing.quarantine)
        found = [(photo_id, fault) for note in notes for photo_id, fault in note["quarantine"]]
        return earlier, [fault for fault in found if fault not in known]


def _reasons(quarantine: list[Fault]) -> dict[str, int]:
    """The number of photos by reason. Details in parentheses are dropped, so that equal faults count together."""
    return dict(sorted(Counter(fault.partition(" (")[0] for _, fault in quarantine).items()))


def _summary(quarantine: list[Fault]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in _reasons(quarantine).items())


def _write_quarantine(path: Path, quarantine: Iterable[tuple[str, str]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "reason"))
        writer.writerows((as_text(photo_id), fault) for photo_id, fault in quarantine)


def check_out(out: Path) -> None:
    """Raises InputError if no photo set can be written at `out`, or if anything else exists there."""
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not a photo set; choose another --out, or delete it yourself")
    check_folder_target(out)
    check_folder_target(partial_folder(out))
