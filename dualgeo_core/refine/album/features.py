"""What the other photos of an album say about each point where a photo may have been taken."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.geo import EARTH_RADIUS_KM, FloatArray, coordinates
from dualgeo_core.refine.album.albums import Albums, Rows
from dualgeo_core.refine.album.mixtures import AREA, Mixtures
from dualgeo_core.refine.album.rates import CITY, NEARNESS_KM, NearnessRates
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.features import Features

FURTHER = 8  # points of other photos that join a photo's own
SUPPORT = 4 * len(NEARNESS_KM)  # features of every point
FURTHER_FEATURES = SUPPORT + len(NEARNESS_KM) + 3
_LEAST_RATE = 0.25  # of lying within 25 km, for a photo to lend its points
_CELL_KM = 0.5
_MOST_PRIOR = 0.5


@dataclass(frozen=True)
class AlbumPoints:
    """The points of n photos: their own (n, m) and FURTHER of other photos, with features and which are known.

    `own_features` is (n, m, SUPPORT); `further_features` (n, FURTHER, FURTHER_FEATURES); `further_xyz` (n, FURTHER, 3).
    """

    own_features: Features
    further_features: Features
    further_xyz: FloatArray
    further_known: NDArray[np.bool_]


def album_points(
    mixtures: Mixtures, albums: Albums, rows: Rows, *, rates: NearnessRates, near_gap: float, density: PhotoDensity
) -> AlbumPoints:
    """The points of photos `rows`, seen from the other photos of their albums."""
    m = mixtures.pairs.known.shape[1]
    found = AlbumPoints(
        own_features=np.zeros((len(rows), m, SUPPORT), dtype=np.float32),
        further_features=np.zeros((len(rows), FURTHER, FURTHER_FEATURES), dtype=np.float32),
        further_xyz=np.zeros((len(rows), FURTHER, 3)),
        further_known=np.zeros((len(rows), FURTHER), dtype=bool),
    )
    found.further_xyz[..., 0] = 1
    lent = lent_points(mixtures)
    neighbours = albums.neighbours(mixtures.informative)
    for index, row in enumerate(rows):
        others = neighbours[row]
        if len(others) == 0:
            continue
        gap = albums.gaps(row, others)
        rate = rates(gap)
        own = mixtures.pairs.vectors[row]
        points, source, told = _further(own[mixtures.pairs.known[row]], others, rate, lent)
        everywhere = np.concatenate([own, points])
        near = gap < near_gap
        within = mixtures.within(everywhere, others)
        support = _support(within, rate, near, _prior(everywhere, density))
        found.own_features[index] = support[:m]
        if len(points):
            mine = mixtures.within(points, np.array([row])) if mixtures.informative[row] else np.tile(AREA, (len(points), 1, 1))
            count = len(points)
            found.further_features[index, :count] = np.column_stack(
                [
                    support[m:],
                    np.log(mine[:, 0] + 0.01),
                    np.log(rate[source, CITY] + 0.01),
                    np.log(told[:, [CITY, 0]] + 0.01),
                ]
            )
            found.further_xyz[index, :count] = points
            found.further_known[index, :count] = True
    return found


@dataclass(frozen=True)
class Lent:
    """The distinct points of each photo (n lists) with what its own mixture has within NEARNESS_KM of them."""

    xyz: list[FloatArray]
    within: list[NDArray[np.float32]]


def lent_points(mixtures: Mixtures) -> Lent:
    """The kernels' centres of each photo."""
    xyz, within = [], []
    for photo, (start, end) in enumerate(zip(mixtures.starts[:-1], mixtures.starts[1:], strict=True)):
        centres = np.unique(mixtures.centres[start:end], axis=0)
        xyz.append(centres)
        within.append(
            mixtures.within(centres, np.array([photo]))[:, 0]
            if len(centres)
            else np.zeros((0, len(NEARNESS_KM)), np.float32)
        )
    return Lent(xyz=xyz, within=within)


def _further(
    own_xyz: FloatArray, others: Rows, rate: NDArray[np.float32], lent: Lent
) -> tuple[FloatArray, Rows, NDArray[np.float32]]:
    """At most FURTHER points of `others`, the index of the photo each is from, and what that photo has around it."""
    lenders = np.flatnonzero(rate[:, CITY] >= _LEAST_RATE)
    nothing = np.zeros((0, 3)), np.zeros(0, dtype=np.int64), np.zeros((0, len(NEARNESS_KM)), np.float32)
    if len(lenders) == 0:
        return nothing
    xyz = np.concatenate([lent.xyz[others[lender]] for lender in lenders])
    within = np.concatenate([lent.within[others[lender]] for lender in lenders])
    source = np.repeat(lenders, [len(lent.xyz[others[lender]]) for lender in lenders])
    best = np.argsort(-(rate[source, CITY] * within[:, CITY]), kind="stable")
    taken = set(map(bytes, _cells(own_xyz)))
    chosen: list[int] = []
    for index, cell in zip(best, map(bytes, _cells(xyz[best])), strict=True):
        if cell not in taken:
            taken.add(cell)
            chosen.append(index)
            if len(chosen) == FURTHER:
                break
    return xyz[chosen], source[chosen], within[chosen]


def _cells(points_xyz: FloatArray) -> NDArray[np.int32]:
    """Cubes of _CELL_KM that the points lie in (no meridian or pole is special)."""
    return np.ascontiguousarray(np.floor(points_xyz * (EARTH_RADIUS_KM / _CELL_KM)).astype(np.int32))


def _prior(points_xyz: FloatArray, density: PhotoDensity) -> NDArray[np.float32]:
    """The probability that any photo lies within NEARNESS_KM of each point: (points, radii)."""
    share = np.exp(density.log_density(*coordinates(points_xyz))) * AREA
    return np.minimum(share, _MOST_PRIOR).astype(np.float32)


def _support(
    within: NDArray[np.float32], rate: NDArray[np.float32], near: NDArray[np.bool_], prior: NDArray[np.float32]
) -> Features:
    """SUPPORT features (points, features): for near and for far photos, that any is close, and the odds of all."""
    absent = np.log1p(-rate * np.minimum(within, np.float32(0.98)))
    odds = np.log1p(rate * (within / prior[:, None] - 1))
    blocks = []
    for part in (near, ~near):
        blocks.append(np.log(1 - np.exp(absent[:, part].sum(axis=1)) + 0.02))
        total = odds[:, part].sum(axis=1)
        blocks.append(np.sign(total) * np.log1p(np.abs(total)))
    return np.concatenate(blocks, axis=1).astype(np.float32)
