"""The rows of a photo table: id, position and author of each photo, as a CSV lists them."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from dualgeo_core.base.csv_files import column_meaning, read_csv
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import coordinate_fault
from dualgeo_core.photos.image_files import SUFFIXES, ImageFiles

# Column names in the tables of IM2GPS3k, YFCC4k and MP-16.
ALIASES = {"img_id": "id", "lat": "latitude", "lon": "longitude"}


@dataclass(frozen=True)
class TableRow:
    """One row of a photo table. `fault` is what the row alone shows to be wrong, or None."""

    id: str
    latitude: float
    longitude: float
    author: str | None
    fault: str | None


class PhotoTable(Sequence[TableRow]):
    """The rows of a CSV (id, latitude, longitude[, author]), kept as columns so that millions fit in memory.

    Ids that name the same file of `images` are one photo. Rows of photos in `left_out` are dropped; `already_there` is
    the number of these photos. Raises InputError as `record_lines` does, and if a column is missing or there twice.
    """

    def __init__(self, path: Path, images: ImageFiles, left_out: Set[str] = frozenset()) -> None:
        table = read_csv(path, ALIASES, dtype=str, keep_default_na=False)
        table = table.rename(columns=lambda name: column_meaning(name, ALIASES))
        missing = [name for name in ("id", "latitude", "longitude") if name not in table]
        if missing:
            present = ", ".join(table.columns)
            raise InputError(f"{path} lacks the column {', '.join(missing)} (it has {present}); add or rename it")
        table["id"] = table["id"].str.strip()
        photo, held_photos = _photos(table["id"], left_out, images)
        held = photo.isin(held_photos)
        self.already_there = photo[held].nunique()
        table, photo = table[~held], photo[~held]
        self._ids = table["id"]
        self._latitude = pd.to_numeric(table["latitude"], errors="coerce").to_numpy()
        self._longitude = pd.to_numeric(table["longitude"], errors="coerce").to_numpy()
        self._author = table["author"].str.strip() if "author" in table else None
        self._repeated = photo.duplicated().to_numpy()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self[row] for row in range(*key.indices(len(self)))]
        photo_id, latitude, longitude = self._ids.iloc[key], float(self._latitude[key]), float(self._longitude[key])
        author = (self._author.iloc[key] or None) if self._author is not None else None
        if not photo_id:
            return TableRow(f"line {self._ids.index[key]}", latitude, longitude, author, "no id")
        fault = "repeated id" if self._repeated[key] else coordinate_fault(latitude, longitude)
        return TableRow(photo_id, latitude, longitude, author, fault)


def _photos(ids: "pd.Series[str]", others: Set[str], images: ImageFiles) -> tuple["pd.Series[str]", set[str]]:
    """For each of the ids, and for the other ids, a name that is equal for all ids of one photo."""

    def file_of(photo_id: str) -> str:
        try:
            file = images.file_of(photo_id)
        except (OSError, ValueError):  # an id that no file can have
            file = None
        return f"\0{file}" if file else str(PurePosixPath(photo_id))

    # Looking up each of millions of files would take minutes; ids of one photo always share their stem.
    stem = ids.map(_stem)
    stems = set(stem)
    similar = {photo_id for photo_id in others if _stem(photo_id) in stems}
    shared = stem.duplicated(keep=False) | stem.isin({_stem(photo_id) for photo_id in similar})
    return ids.mask(shared, ids[shared].map(file_of)), {file_of(photo_id) for photo_id in similar}


def _stem(photo_id: str) -> str:
    """The end of the id, without suffix. In tars, a_b_c.jpg, a/b/c.jpg and c.jpg may name one photo."""
    name = re.split("[/_]", photo_id)[-1]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in SUFFIXES else name
