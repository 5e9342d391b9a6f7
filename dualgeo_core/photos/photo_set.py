"""A photo set on disk: Parquet shards of id, latitude, longitude, author and image, listed in `set.json`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.dataset import ParquetFileFormat, ParquetFragmentScanOptions, dataset

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, fingerprint, read_json, reading
from dualgeo_core.base.frames import read_parquet
from dualgeo_core.base.shards import ShardKey
from dualgeo_core.photos.photographers import is_query_photographer
from dualgeo_core.settings import PhotoSource

MANIFEST = "set.json"
QUARANTINE = "quarantine.csv"
REMEDY = "restore the photo set, or ingest it again"


@dataclass(frozen=True)
class PhotoShard:
    """Some photos of one Parquet file: `images[i]` holds the encoded bytes of the photo `ids[i]`."""

    name: str
    ids: list[str]
    images: list[bytes]


@dataclass(frozen=True)
class Photos:
    """The photos of a set, or those of its gallery or query photographers only, in a fixed order."""

    folder: Path
    source: PhotoSource

    @cached_property
    def fingerprint(self) -> str:
        """A fingerprint of the bytes of all shards and of the selected part."""
        manifest = read_json(self.folder / MANIFEST)
        return fingerprint(manifest["shards"], self.source.part, self.source.query_share)

    @property
    def quarantined(self) -> int:
        """The number of photos that the ingest refused."""
        return int(read_json(self.folder / MANIFEST)["quarantined"])

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All columns but images and label maps: id, latitude, longitude, author, and columns specific to the set."""
        tables = [_shard_frame(path)[self._members[path.stem]] for path in self._shard_paths()]
        return pd.concat(tables, ignore_index=True)

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def shard_keys(self) -> tuple[ShardKey, ...]:
        """The shards in the order of `frame`. Reads no images. `rows` is empty if a shard has no photo of this part."""
        digests = read_json(self.folder / MANIFEST)["shards"]
        keys, start = [], 0
        for path in self._shard_paths():
            inputs = fingerprint(digests[path.name], self.source.part, self.source.query_share)
            rows = range(start, start + int(self._members[path.stem].sum()))
            keys.append(ShardKey(name=path.stem, fingerprint=inputs, rows=rows))
            start = rows.stop
        return tuple(keys)

    def shards(self, column: str = "image") -> Iterator[PhotoShard]:
        """The photos (or another bytes column) shard by shard, in the order of `frame`."""
        for path in self._shard_paths():
            yield self.shard(path.stem, column)

    def shard(self, name: str, column: str = "image") -> PhotoShard:
        """The photos (or another bytes column) of one shard. Raises InputError if its bytes have changed."""
        path = self.folder / f"{name}.parquet"
        with reading(path, remedy=REMEDY):
            if file_digest(path) != read_json(self.folder / MANIFEST)["shards"][path.name]:
                raise InputError(f"{path} is damaged: {REMEDY}")
        table = read_parquet(path, columns=["id", column], remedy=REMEDY)
        kept = table[self._members[name]]
        return PhotoShard(name=name, ids=kept["id"].tolist(), images=kept[column].tolist())

    def knows(self, column: str) -> bool:
        """Whether the set has this column."""
        return column in _columns(self._shard_paths()[0])

    def take(self, rows: NDArray[np.int64], column: str = "image") -> list[bytes]:
        """The bytes of these rows of `frame`, in this order. Each row requires reading its whole row group."""
        # Any page read is compared with its checksum.
        scan = ParquetFragmentScanOptions(page_checksum_verification=True)
        shards = [str(path) for path in self._shard_paths()]
        with reading(self.folder, remedy=REMEDY):
            stored = dataset(shards, format=ParquetFileFormat(default_fragment_scan_options=scan))
            table = stored.take(self._positions[rows], columns=[column])
        return [bytes(value) for value in table[column].to_pylist()]

    def image(self, photo_id: str) -> bytes:
        """One photo's encoded bytes. Raises InputError if the set has no such id."""
        for path in self._shard_paths():
            found = read_parquet(path, columns=["image"], filters=[("id", "==", photo_id)], remedy=REMEDY)
            if len(found):
                return bytes(found["image"].iloc[0])
        raise InputError(f"{self.folder} has no photo {photo_id!r}")

    @cached_property
    def _positions(self) -> NDArray[np.int64]:
        """For each row of `frame`, its number among all rows of all shards."""
        return np.flatnonzero(np.concatenate(list(self._members.values())))

    @cached_property
    def _members(self) -> dict[str, NDArray[np.bool_]]:
        """For each shard, by name, a mask of the rows that belong to this part."""
        return {
            path.stem: self._belongs(read_parquet(path, columns=["author"], remedy=REMEDY)["author"]).to_numpy(
                dtype=bool
            )
            for path in self._shard_paths()
        }

    def _shard_paths(self) -> list[Path]:
        return [self.folder / name for name in sorted(read_json(self.folder / MANIFEST)["shards"])]

    def _belongs(self, author: "pd.Series[str]") -> "pd.Series[bool]":
        if self.source.part == "all":
            return pd.Series(True, index=author.index)
        is_query = author.map(lambda name: is_query_photographer(name, share=self.source.query_share))
        return is_query if self.source.part == "queries" else ~is_query


def _shard_frame(path: Path) -> pd.DataFrame:
    columns = [name for name in _columns(path) if name not in ("image", "label_map")]
    return read_parquet(path, columns=columns, remedy=REMEDY)


def _columns(path: Path) -> list[str]:
    with reading(path, remedy=REMEDY):
        return list(pq.read_schema(path).names)


def open_photos(source: PhotoSource, data: Path) -> Photos:
    """The photos of `source`, read once per process while no file of the set changes.

    Raises InputError if the set does not exist.
    """
    folder = data / source.photo_set
    if not (folder / MANIFEST).is_file():
        raise InputError(f"there is no photo set {folder}; create it with `dualgeo ingest`")
    with os.scandir(folder) as files:
        stats = sorted((file.name, file.stat()) for file in files)
    return _opened(folder, source, tuple((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats))


@lru_cache(maxsize=8)
def _opened(folder: Path, source: PhotoSource, files: tuple[tuple[str, int, int, int], ...]) -> Photos:
    return Photos(folder=folder, source=source)
