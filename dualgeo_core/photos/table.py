"""The rows of a photo table: id, position and author of each photo, as a CSV lists them."""

import re
from collections.abc import Collection, Hashable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.csv_files import column_meaning, columns_of, read_csv
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import coordinate_fault
from dualgeo_core.photos.image_files import SUFFIXES, ImageFiles
from dualgeo_core.photos.published_sets import PLAIN, TableFormat
from dualgeo_core.photos.swapped_coordinates import refuse_swapped

# Column names in the tables of IM2GPS, IM2GPS3k, YFCC4k and MP-16.
ALIASES = {"img_id": "id", "lat": "latitude", "lon": "longitude"}
REQUIRED = ("id", "latitude", "longitude")


@dataclass(frozen=True)
class TableRow:
    """One row of a photo table. `fault` is what the row alone shows to be wrong, or None."""

    id: str
    latitude: float
    longitude: float
    author: str | None
    fault: str | None
    more: dict[str, str | None] = field(default_factory=dict)


class PhotoTable(Sequence[TableRow]):
    """The rows of a CSV (id, latitude, longitude[, author]), kept as columns so that millions fit in memory.

    They are in the order in which `images` are read fastest. Ids that name the same file of `images` are one photo.
    Rows of photos in `left_out` are dropped; `already_there` is the number of these photos. `swapped` exchanges
    latitude and longitude. A table whose columns seem to be exchanged is refused, unless it is False.

    Raises InputError as `record_lines` and `refuse_swapped` do, and if a column is missing or there twice.
    """

    def __init__(
        self,
        path: Path,
        images: ImageFiles,
        *,
        form: TableFormat = PLAIN,
        swapped: bool | None = None,
        left_out: Set[str] = frozenset(),
    ) -> None:
        table = _read(path, form)
        photo, held_photos = _photos(table["id"], left_out, images)
        held = photo.isin(held_photos)
        self.already_there = photo[held].nunique()
        table["repeated"] = photo.duplicated()
        if self.already_there:
            table = table[~held]
        if swapped:
            table = table.rename(columns={"latitude": "longitude", "longitude": "latitude"})
        if swapped is not False:
            remedy = "leave out --swapped" if swapped else "add --swapped, or --not-swapped if the columns are right"
            refuse_swapped(path, table["latitude"].to_numpy(), table["longitude"].to_numpy(), remedy=remedy)
        self.more_columns = tuple(name for name in form.kept if name in table)
        self._form, self._table = form, table
        self._order = images.reading_order(table["id"].tolist())

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            rows = self._table.iloc[self._order[key]]
            return [self._row(line, row) for line, row in zip(rows.index, rows.to_dict("records"), strict=True)]
        return self[key : key + 1][0]

    def _row(self, line: int, row: dict[Hashable, Any]) -> TableRow:
        photo_id, latitude, longitude = str(row["id"]), float(row["latitude"]), float(row["longitude"])
        author = self._form.author(photo_id, str(row.get("author", "")).strip() or None)
        more = {name: str(row[name]).strip() or None for name in self.more_columns}
        if not photo_id:
            return TableRow(f"line {line}", latitude, longitude, author, "no id")
        fault = "repeated id" if row["repeated"] else coordinate_fault(latitude, longitude)
        return TableRow(photo_id, latitude, longitude, author, fault, more)


def _read(path: Path, form: TableFormat) -> pd.DataFrame:
    """The columns in use by their meaning, positions as numbers, other values as text; the index is the line."""
    wanted = {*REQUIRED, "author", *form.kept}
    table = read_csv(
        path, ALIASES, dtype=str, keep_default_na=False, usecols=lambda name: column_meaning(name, ALIASES) in wanted
    )
    table = table.rename(columns=lambda name: column_meaning(name, ALIASES))
    if missing := [name for name in REQUIRED if name not in table]:
        present = ", ".join(columns_of(path))
        raise InputError(f"{path} lacks the column {', '.join(missing)} (it has {present}); add or rename it")
    table["id"] = table["id"].str.strip()
    for name in ("latitude", "longitude"):
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
    for name in form.kept:
        if name in table:
            table[name] = table[name].astype("category")
    return table


def _photos(ids: "pd.Series[str]", others: Set[str], images: ImageFiles) -> tuple["pd.Series[str]", set[str]]:
    """For each of the ids, and for the other ids, a name that is equal for all ids of one photo."""

    def file_of(photo_id: str) -> str:
        try:
            file = images.file_of(photo_id)
        except (OSError, ValueError):  # an id that no file can have
            file = None
        return f"\0{file}" if file else str(PurePosixPath(photo_id))

    # Looking up each of millions of files would take minutes; ids of one photo always share their stem.
    stem, other_stem = pd.Series(_stems(ids), index=ids.index), _stems(others)
    similar = {photo_id for photo_id, known in zip(others, np.isin(other_stem, stem), strict=True) if known}
    shared = stem.duplicated(keep=False) | stem.isin(other_stem)
    return ids.mask(shared, ids[shared].map(file_of)), {file_of(photo_id) for photo_id in similar}


def _stems(ids: Collection[str]) -> NDArray[np.int64]:
    """A number for the stem of each id. Unequal stems may share one, which costs a look-up."""
    return np.fromiter((hash(_stem(photo_id)) for photo_id in ids), np.int64, count=len(ids))


def _stem(photo_id: str) -> str:
    """The end of the id, without suffix. In tars, a_b_c.jpg, a/b/c.jpg and c.jpg may name one photo."""
    name = re.split("[/_]", photo_id)[-1]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in SUFFIXES else name
