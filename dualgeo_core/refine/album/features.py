"""What a photo and the others of its album say about each point where it may have been taken."""

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
SHARED_FEATURES = 5 * len(NEARNESS_KM)
FURTHER_FEATURES = SHARED_FEATURES + 3
_LENDING_RATE = 0.25  # of lying within 25 km, for a photo to lend its points
_NEAR_RATE = 0.35  # of lying within 25 km, for a photo to count as near
_CELL_KM = 0.5  # points closer than this are one
_MOST_PRIOR = 0.5
_MOST_WITHIN = np.float32(0.98)


@dataclass(frozen=True)
class AlbumPoints:
    """The points of n photos: their own (n, m), and FURTHER ones that other photos lend.

    `own_features` is (n, m, SHARED_FEATURES), `further_features` (n, FURTHER, FURTHER_FEATURES), `further_xyz`
    (n, FURTHER, 3); `further_known` (n, FURTHER) says which there are.
    """

    own_features: Features
    further_features: Features
    further_xyz: FloatArray
    further_known: NDArray[np.bool_]


def album_points(
    mixtures: Mixtures, albums: Albums, rows: Rows, *, rates: NearnessRates, density: PhotoDensity
) -> AlbumPoints:
    """The points of photos `rows`, each of which has others in its album."""
    m = mixtures.pairs.known.shape[1]
    found = AlbumPoints(
        own_features=np.zeros((len(rows), m, SHARED_FEATURES), dtype=np.float32),
        further_features=np.zeros((len(rows), FURTHER, FURTHER_FEATURES), dtype=np.float32),
        further_xyz=np.tile([1.0, 0.0, 0.0], (len(rows), FURTHER, 1)),
        further_known=np.zeros((len(rows), FURTHER), dtype=bool),
    )
    neighbours = albums.neighbours(rows, mixtures.informative)
    own_prior = _prior(mixtures.pairs.vectors[rows], density)
    for index, (row, others) in enumerate(zip(rows, neighbours, strict=True)):
        rate = rates(albums.gaps(row, others))
        own = mixtures.pairs.vectors[row]
        further = _lent(own[mixtures.pairs.known[row]], others, rate, mixtures)
        every_xyz = np.concatenate([own, further.xyz])
        within = mixtures.within(every_xyz, np.append(others, row))
        prior = np.concatenate([own_prior[index], _prior(further.xyz, density)])
        support = _support(within[:, :-1], rate, prior)
        shared = np.concatenate([support, np.log(within[:, -1] + 0.01)], axis=1)
        count = len(further.xyz)
        found.own_features[index] = shared[:m]
        found.further_features[index, :count, :SHARED_FEATURES] = shared[m:]
        found.further_features[index, :count, SHARED_FEATURES:] = np.log(further.trust + 0.01)
        found.further_xyz[index, :count] = further.xyz
        found.further_known[index, :count] = True
    return found


@dataclass(frozen=True)
class _Lent:
    """Points (p, 3) of other photos; `trust` (p, 3): the rate within 25 km, what the lender has within 25 and 2 km."""

    xyz: FloatArray
    trust: NDArray[np.float32]


def _lent(own_xyz: FloatArray, others: Rows, rate: NDArray[np.float32], mixtures: Mixtures) -> _Lent:
    """At most FURTHER points that are likely by their lender and its rate, none next to another or to an own one."""
    lenders = np.flatnonzero(rate[:, CITY] >= _LENDING_RATE)
    lender, point = np.nonzero(mixtures.pairs.known[others[lenders]])
    photo, city_rate = others[lenders[lender]], rate[lenders[lender], CITY]
    xyz, within = mixtures.pairs.vectors[photo, point], mixtures.within_own[photo, point]
    best = np.argsort(-city_rate * within[:, CITY], kind="stable")
    taken = set(map(bytes, _cells(own_xyz)))
    chosen: list[int] = []
    for index, cell in zip(best, map(bytes, _cells(xyz[best])), strict=True):
        if len(chosen) < FURTHER and cell not in taken:
            taken.add(cell)
            chosen.append(index)
    trust = np.column_stack([city_rate[chosen], within[chosen, CITY], within[chosen, 0]])
    return _Lent(xyz=xyz[chosen], trust=trust)


def _cells(points_xyz: FloatArray) -> NDArray[np.int32]:
    """The cubes of _CELL_KM that the points lie in: no meridian or pole is special."""
    return np.ascontiguousarray(np.floor(points_xyz * (EARTH_RADIUS_KM / _CELL_KM)).astype(np.int32))


def _prior(points_xyz: FloatArray, density: PhotoDensity) -> NDArray[np.float32]:
    """The probability that any photo lies within NEARNESS_KM of each point: (..., radii)."""
    share = np.exp(density.log_density(*coordinates(points_xyz))) * AREA
    return np.minimum(share, _MOST_PRIOR).astype(np.float32)


def _support(within: NDArray[np.float32], rate: NDArray[np.float32], prior: NDArray[np.float32]) -> Features:
    """What near and far photos say (points, features): the chance that one of them is close, and the odds of all.

    `within` is (points, photos, radii). Both are by radius.
    """
    absent = np.log1p(-rate * np.minimum(within, _MOST_WITHIN))
    odds = np.log1p(rate * (within / prior[:, None] - 1))
    near = rate[:, CITY] >= _NEAR_RATE
    blocks = []
    for part in (near, ~near):
        total = odds[:, part].sum(axis=1)
        blocks.append(np.log(1 - np.exp(absent[:, part].sum(axis=1)) + 0.02))
        blocks.append(np.sign(total) * np.log1p(np.abs(total)))
    return np.concatenate(blocks, axis=1).astype(np.float32)
