"""Writes a photo set as a stream: shards appear whole, a killed run goes on, unusable photos are listed with why."""

import csv
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dualgeo_core.errors import InputError
from dualgeo_core.files import atomic_file, file_digest, read_json, replace_folder, write_json
from dualgeo_core.photos.photo_set import MANIFEST, QUARANTINE
from dualgeo_core.progress import Progress, silent

SHARD_BYTES = 256 * 2**20
SHARD_PHOTOS = 1024
ROW_GROUP_BYTES = 16 * 2**20  # what the writer holds in memory, beside one batch
BATCH = 64
RECIPE = "recipe.json"

COLUMNS = {
    "id": pa.string(),
    "latitude": pa.float64(),
    "longitude": pa.float64(),
    "author": pa.string(),
    "image": pa.binary(),
}
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class IngestedPhoto:
    """One photo on its way into a set; with a `fault` it goes to the quarantine and its other fields do not count."""

    id: str
    latitude: float = float("nan")
    longitude: float = float("nan")
    author: str | None = None
    image: bytes = b""
    fault: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in COLUMNS}
        return facts | self.more


def write_photo_set(
    *,
    out: Path,
    recipe: str,
    entries: Sequence[Entry],
    read: Callable[[Entry], IngestedPhoto],
    pool: Executor,
    max_quarantine_share: float,
    more_columns: dict[str, pa.DataType] | None = None,
    shard_photos: int = SHARD_PHOTOS,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Puts the set of `read(entry)` for every entry at `out`; returns its manifest. The same entries, the same bytes.

    Work goes on in `<out>.partial`, signed with `recipe` (whatever the outcome depends on), and shows at `out` when
    it is whole. Raises InputError where `out` is something else than a photo set, where no photo is usable, or where
    more than `max_quarantine_share` of them are not; the reasons are then in `<out>.partial/quarantine.csv`.
    """
    _refuse_foreign_folder(out)
    partial = out.with_name(f"{out.name}.partial")
    shards = _resume(partial, recipe)
    schema = pa.schema({**COLUMNS, **(more_columns or {})})
    start = shards[-1]["next"] if shards else 0
    while start < len(entries):
        progress(out.name, start, len(entries))
        shard = _write_shard(partial, len(shards), schema, entries, start, read, pool, shard_photos, progress, out.name)
        shards.append(shard)
        start = shard["next"]
    return _finish(out, partial, shards, max_quarantine_share)


def _write_shard(
    partial: Path,
    number: int,
    schema: pa.Schema,
    entries: Sequence[Entry],
    start: int,
    read: Callable[[Entry], IngestedPhoto],
    pool: Executor,
    shard_photos: int,
    progress: Progress,
    set_name: str,
) -> dict[str, Any]:
    """Writes the next shard and its note {file, digest, next, photos, authors, quarantine}; the note makes it count."""
    name = f"photos-{number:05d}.parquet"
    quarantine: list[tuple[str, str]] = []
    rows: list[dict[str, Any]] = []
    pending, written, photos, position = 0, 0, 0, start
    with atomic_file(partial / name) as temporary:
        # Images are compressed already; a dictionary over them would only cost memory.
        small = [column for column in schema.names if column not in ("image", "label_map")]
        compression = {column: "zstd" if column in small else "none" for column in schema.names}
        with pq.ParquetWriter(temporary, schema, compression=compression, use_dictionary=small) as writer:
            while position < len(entries) and photos < shard_photos and written + pending < SHARD_BYTES:
                batch = entries[position : position + min(BATCH, shard_photos - photos)]
                for photo in pool.map(read, batch, chunksize=8):
                    if photo.fault:
                        quarantine.append((photo.id, photo.fault))
                        continue
                    rows.append(photo.row)
                    photos += 1
                    pending += len(photo.image)
                position += len(batch)
                progress(set_name, position, len(entries))
                if pending >= ROW_GROUP_BYTES:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                    written, pending, rows = written + pending, 0, []
            if rows or not written:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    note = {"file": name, "digest": file_digest(partial / name), "next": position, "photos": photos}
    note["quarantine"] = quarantine
    write_json(partial / f"{name}.json", note)
    return note


def _resume(partial: Path, recipe: str) -> list[dict[str, Any]]:
    """The notes of the shards that an earlier run of the same recipe finished; everything else there is removed."""
    if partial.exists() and not ((partial / RECIPE).is_file() and read_json(partial / RECIPE) == recipe):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_json(partial / RECIPE, recipe)
    notes = sorted(partial.glob("photos-*.parquet.json"))
    shards = [read_json(note) for note in notes]
    kept = {RECIPE, *(note.name for note in notes), *(shard["file"] for shard in shards)}
    for file in partial.iterdir():
        if file.name not in kept:
            file.unlink()
    return shards


def _finish(out: Path, partial: Path, shards: list[dict[str, Any]], max_share: float) -> dict[str, Any]:
    photos = sum(shard["photos"] for shard in shards)
    quarantine = [(photo_id, fault) for shard in shards for photo_id, fault in shard["quarantine"]]
    _write_quarantine(partial / QUARANTINE, quarantine)
    # The reason without its detail, so that one fault of many photos is one line.
    reasons = dict(sorted(Counter(fault.partition(" (")[0] for _, fault in quarantine).items()))
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    if not photos:
        raise InputError(f"{out} would hold no usable photo ({told or 'nothing was found'}); mend the source")
    share = len(quarantine) / (photos + len(quarantine))
    if share > max_share:
        raise InputError(
            f"{len(quarantine)} of {photos + len(quarantine)} photos for {out} cannot be used ({told}): "
            f"{share:.1%} is past the allowed {max_share:.1%}; see {partial / QUARANTINE}, mend them or allow more"
        )
    manifest = {
        "shards": {shard["file"]: shard["digest"] for shard in shards if shard["photos"]},
        "photos": photos,
        "quarantined": len(quarantine),
        "quarantine_reasons": reasons,
    }
    for shard in shards:
        (partial / f"{shard['file']}.json").unlink()
        if not shard["photos"]:
            (partial / shard["file"]).unlink()
    (partial / RECIPE).unlink()
    write_json(partial / MANIFEST, manifest)
    replace_folder(partial, out)
    return manifest


def _write_quarantine(path: Path, quarantine: Iterable[tuple[str, str]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "reason"))
        writer.writerows(quarantine)


def _refuse_foreign_folder(out: Path) -> None:
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there and is no photo set; take another --out, or remove it yourself")
