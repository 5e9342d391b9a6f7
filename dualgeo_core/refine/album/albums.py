"""Which photos form an album, how far they are apart in its order, and which of them have a known place."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.geo import FloatArray

WINDOW = 100  # neighbours that a photo of a large album is compared with

Rows = NDArray[np.int64]


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

    def neighbours(self, informative: NDArray[np.bool_], window: int = WINDOW) -> list[Rows]:
        """For each photo the other `informative` photos of its album, at most `window`, in ascending rows.

        In a larger album these are the nearest in its order. Where an order is missing they are spread evenly over the
        album.
        """
        found = [np.empty(0, dtype=np.int64) for _ in self.album]
        for members in self.members():
            useful = members[informative[members]]
            for row in members:
                found[row] = self._nearest(row, useful[useful != row], window)
        return found

    def members(self) -> list[Rows]:
        """The rows of each album."""
        rows = np.flatnonzero(self.album >= 0)
        rows = rows[np.argsort(self.album[rows], kind="stable")]
        return np.split(rows, np.flatnonzero(np.diff(self.album[rows])) + 1) if len(rows) else []

    def gaps(self, row: int, others: Rows) -> FloatArray:
        """The differences in order between one photo and others; NaN where either has none."""
        return np.abs(self.order[others] - self.order[row])

    def _nearest(self, row: int, others: Rows, window: int) -> Rows:
        if len(others) <= window:
            return others
        evenly = np.linspace(0, len(others) - 1, window).astype(np.int64)
        by_gap = np.argsort(self.gaps(row, others), kind="stable")  # NaN comes last
        chosen = evenly if np.isnan(self.order[row]) else by_gap[:window]
        return np.sort(others[chosen])
