"""What each photo of an album says about places by itself: its single-photo mixture, read at any point."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.geo import EARTH_RADIUS_KM, FloatArray, unit_vectors
from dualgeo_core.refine.album.albums import Albums, Rows
from dualgeo_core.refine.album.rates import NEARNESS_KM
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.evidence import Evidence
from dualgeo_core.refine.features import Pairs, pairs_of
from dualgeo_core.refine.kernels import SCALES_KM, distance_bins, look_up, within_table
from dualgeo_core.refine.posterior import CHUNK, component_weights
from dualgeo_core.refine.refiner import Head

# The share of the Earth within each of NEARNESS_KM.
AREA = ((1 - np.cos(np.array(NEARNESS_KM) / EARTH_RADIUS_KM)) / 2).astype(np.float32)


@dataclass(frozen=True)
class Mixtures:
    """The single-photo mixtures of n photos: `weights` (n, points, scales) and `background` (n,).

    `within_own` (n, points, radii) is the probability that a photo lies within NEARNESS_KM of each of its points.
    """

    pairs: Pairs
    weights: NDArray[np.float32]
    background: NDArray[np.float32]
    within_own: NDArray[np.float32]

    @property
    def informative(self) -> NDArray[np.bool_]:
        """Which photos say anything (n,)."""
        return np.asarray(self.pairs.known.any(axis=1))

    def within(self, points_xyz: FloatArray, photos: Rows) -> NDArray[np.float32]:
        """The probability that each photo lies within NEARNESS_KM of each point: (points, photos, radii)."""
        centres = self.pairs.vectors[photos].reshape(-1, 3)
        inside = _by_kernel(distance_bins(points_xyz, centres), photos=len(photos))
        weights = self.weights[photos].reshape(len(photos), 1, -1)
        return np.matmul(weights, inside)[:, :, 0] + self.background[photos, None] * AREA


def single_photo_mixtures(
    evidence: Evidence, albums: Albums, *, alone: Head, answered: Head, density: PhotoDensity, trust: FloatArray
) -> Mixtures:
    """The mixtures that the single-photo heads give; an anchor's is one kernel of the smallest scale at its place.

    `trust` (n,) is the part of a photo's mixture that its evidence keeps; the rest goes to the background.
    """
    pairs = pairs_of(evidence)
    weights = np.zeros((*pairs.known.shape, len(SCALES_KM)), dtype=np.float32)
    background = np.ones(len(evidence), dtype=np.float32)
    has_answers = evidence.has_answers
    for head, rows in (
        (alone, np.flatnonzero(evidence.has_candidates & ~has_answers)),
        (answered, np.flatnonzero(has_answers)),
    ):
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            weights[chunk], background[chunk] = component_weights(
                evidence.take(chunk), pairs.take(chunk), head=head, density=density
            )
    weights *= trust.astype(np.float32)[:, None, None]
    background = (1 - trust * (1 - background)).astype(np.float32)
    anchors = np.flatnonzero(albums.is_anchor)
    weights[anchors], background[anchors], pairs.known[anchors] = 0, 0, False
    weights[anchors, 0, 0], pairs.known[anchors, 0] = 1, True
    pairs.vectors[anchors, 0] = unit_vectors(albums.latitude[anchors], albums.longitude[anchors])
    within_own = np.zeros((*pairs.known.shape, len(NEARNESS_KM)), dtype=np.float32)
    within_own[anchors, 0] = 1
    for chunk in np.array_split(np.flatnonzero(~albums.is_anchor), 1 + len(pairs.known) // CHUNK):
        within = np.matmul(weights[chunk].reshape(len(chunk), 1, 1, 1, -1), _by_kernel(pairs.bins[chunk], photos=1))
        within_own[chunk] = within[:, :, 0, 0] + background[chunk, None, None] * AREA
    return Mixtures(pairs=pairs, weights=weights, background=background, within_own=within_own)


def _by_kernel(bins: NDArray[np.intp], *, photos: int) -> NDArray[np.float32]:
    """What each kernel of `photos` photos has within NEARNESS_KM of points: (..., photos, kernels, radii).

    `bins` is (..., photos times centres).
    """
    table = within_table(NEARNESS_KM).reshape(-1, len(SCALES_KM) * len(NEARNESS_KM))
    return look_up(table, bins).reshape(*bins.shape[:-1], photos, -1, len(NEARNESS_KM))
