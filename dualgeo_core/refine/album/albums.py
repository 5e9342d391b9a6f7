"""Which photos form an album, how far they are apart in its order, and which of them have a known place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import FloatArray

WINDOW = 100  # neighbours that a photo of a large album is compared with

Rows = NDArray[np.int64]
_NONE: Rows = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Albums:
    """Per photo (n,): its album (-1: none), its place in the album's order, and the position of an anchor; NaN: none.

    An anchor is a photo whose position is known, for example from GPS.
    """

    album: Rows
    order: FloatArray
    latitude: FloatArray
    longitude: FloatArray

    @property
    def is_anchor(self) -> NDArray[np.bool_]:
        """Per photo (n,)."""
        return np.isfinite(self.latitude)

    def take(self, rows: Rows) -> "Albums":
        """The photos `rows`."""
        return Albums(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def without_order(self) -> "Albums":
        """The same albums, read without order."""
        return replace(self, order=np.full(len(self.album), np.nan))

    def without_anchors(self) -> "Albums":
        """The same albums, with no position known."""
        nowhere = np.full(len(self.album), np.nan)
        return replace(self, latitude=nowhere, longitude=nowhere)

    def batches(self, size: int) -> Iterator[Rows]:
        """All rows, about `size` at a time; no album is divided."""
        album = np.where(self.album >= 0, self.album, self.album.max(initial=-1) + 1 + np.arange(len(self.album)))
        rows = np.argsort(pd.factorize(album)[0], kind="stable")
        ends = np.flatnonzero(np.diff(album[rows], append=-1)) + 1
        start = 0
        for end in map(int, ends):
            if end - start >= size or end == len(rows):
                yield rows[start:end]
                start = end

    def neighbours(self, rows: Rows, informative: NDArray[np.bool_], window: int = WINDOW) -> list[Rows]:
        """For each of `rows` the other `informative` photos of its album, at most `window`, in ascending order.

        In a larger album these are the nearest in its order. Where an order is missing they are spread evenly over the
        album.
        """
        useful = {int(self.album[members[0]]): members[informative[members]] for members in self.members()}
        return [self._nearest(row, useful.get(int(self.album[row]), _NONE), window) for row in rows]

    def members(self) -> list[Rows]:
        """The rows of each album."""
        rows = np.flatnonzero(self.album >= 0)
        rows = rows[np.argsort(self.album[rows], kind="stable")]
        return np.split(rows, np.flatnonzero(np.diff(self.album[rows])) + 1) if len(rows) else []

    def gaps(self, row: int, others: Rows) -> FloatArray:
        """The differences in order between one photo and others; NaN where either has none."""
        return np.abs(self.order[others] - self.order[row])

    def usual_gap(self, quantile: float) -> float:
        """A quantile of the gap to the nearest photo of the same album; NaN where no two photos have an order."""
        nearest = []
        for members in self.members():
            order = np.sort(self.order[members][np.isfinite(self.order[members])])
            if len(order) > 1:
                steps = np.concatenate([[np.inf], np.diff(order), [np.inf]])
                nearest.append(np.minimum(steps[1:], steps[:-1]))
        return float(np.quantile(np.concatenate(nearest), quantile)) if nearest else float("nan")

    def _nearest(self, row: int, members: Rows, window: int) -> Rows:
        others = members[members != row]
        if len(others) <= window:
            return others
        evenly = np.linspace(0, len(others) - 1, window).astype(np.int64)
        by_gap = np.argsort(self.gaps(row, others), kind="stable")  # NaN comes last
        chosen = evenly if np.isnan(self.order[row]) else by_gap[:window]
        return np.sort(others[chosen])


def albums_by_author(photos: pd.DataFrame) -> pd.DataFrame:
    """The album table of a photo set (id, author[, taken]): an album is all photos of one author, in order of time.

    A photo by an unknown author is an album by itself.
    """
    alone = "\0" + photos["id"].astype(str)
    albums = pd.DataFrame({"id": photos["id"], "album": photos["author"].where(photos["author"].notna(), alone)})
    if "taken" in photos:
        since_1970 = pd.to_datetime(photos["taken"], utc=True) - pd.Timestamp(0, tz="UTC")
        albums["taken"] = since_1970.dt.total_seconds()
    return albums


def gather_albums(table: pd.DataFrame, ids: Sequence[str], *, order_column: str | None) -> Albums:
    """The albums of photos `ids`; `order_column` of the table gives their order."""
    known = table.set_index("id").reindex(list(ids))
    nothing = np.full(len(known), np.nan)
    latitude, longitude, order = (
        known[column].to_numpy(np.float64) if column in known else nothing
        for column in ("latitude", "longitude", order_column)
    )
    album = pd.factorize(known["album"])[0].astype(np.int64)  # -1 where the table does not name a photo
    return Albums(album=album, order=order, latitude=latitude, longitude=longitude)


def anchors_beside(table: pd.DataFrame, ids: Sequence[str]) -> list[str]:
    """The photos with a known position that are not in `ids`, but in an album with one of them.

    Raises InputError if the table names none of `ids`.
    """
    asked = table["id"].isin(list(ids))
    if not asked.any():
        raise InputError("no album holds a photo of the candidates; give the albums of the same photos")
    beside = ~asked & table["album"].isin(table["album"][asked])
    return table["id"][beside & table["latitude"].notna()].tolist() if "latitude" in table else []
