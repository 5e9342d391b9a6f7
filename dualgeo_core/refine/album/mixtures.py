"""What each photo of an album says about places by itself: its single-photo mixture, pruned, and read at any point."""

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

LEAST_WEIGHT = 1e-3
AREA = (1 - np.cos(np.array(NEARNESS_KM) / EARTH_RADIUS_KM)) / 2  # share of the Earth within each radius


@dataclass(frozen=True)
class Mixtures:
    """The single-photo mixtures of n photos: `weights` (n, points, scales) and `background` (n,).

    The kernels that weigh at least LEAST_WEIGHT are also listed photo after photo: `centres` (c, 3), `scales` (c,) and
    `masses` (c,); those of photo i begin at `starts[i]` (n + 1,).
    """

    pairs: Pairs
    weights: NDArray[np.float32]
    background: NDArray[np.float32]
    centres: FloatArray
    scales: Rows
    masses: NDArray[np.float32]
    starts: Rows

    @property
    def informative(self) -> NDArray[np.bool_]:
        """Which photos say anything (n,)."""
        return np.diff(self.starts) > 0

    def within(self, points_xyz: FloatArray, photos: Rows) -> NDArray[np.float32]:
        """The probability that each photo lies within NEARNESS_KM of each point: (points, photos, radii)."""
        counts = self.starts[photos + 1] - self.starts[photos]
        first = np.cumsum(counts) - counts
        kernels = np.arange(counts.sum()) + np.repeat(self.starts[photos] - first, counts)
        bins = distance_bins(points_xyz, self.centres[kernels]) * len(SCALES_KM) + self.scales[kernels]
        inside = look_up(_table(), bins) * self.masses[kernels, None]
        summed = np.add.reduceat(inside, first, axis=1)
        return summed + self.background[photos, None] * AREA.astype(np.float32)


def single_photo_mixtures(
    evidence: Evidence, albums: Albums, *, alone: Head, answered: Head, density: PhotoDensity
) -> Mixtures:
    """The mixtures that the single-photo heads give; an anchor's is one kernel of the smallest scale at its place."""
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
            part = Pairs(vectors=pairs.vectors[chunk], known=pairs.known[chunk], bins=pairs.bins[chunk])
            weights[chunk], background[chunk] = component_weights(
                evidence.take(chunk), part, head=head, density=density
            )
    return _listed(pairs, weights, background, albums)


def _listed(
    pairs: Pairs, weights: NDArray[np.float32], background: NDArray[np.float32], albums: Albums
) -> Mixtures:
    peak = weights.max(axis=(1, 2), keepdims=True, initial=0)
    kept = (weights >= np.minimum(LEAST_WEIGHT, np.maximum(peak, np.finfo(np.float32).tiny))) & ~albums.is_anchor[:, None, None]
    photo, point, scale = np.nonzero(kept)
    anchors = np.flatnonzero(albums.is_anchor)
    all_photos = np.concatenate([photo, anchors])
    order = np.argsort(all_photos, kind="stable")
    anchor_xyz = unit_vectors(albums.latitude[anchors], albums.longitude[anchors])
    starts = np.concatenate([[0], np.cumsum(np.bincount(all_photos, minlength=len(weights)))])
    return Mixtures(
        pairs=pairs,
        weights=weights,
        background=np.where(albums.is_anchor, np.float32(0), background),
        centres=np.concatenate([pairs.vectors[photo, point], anchor_xyz])[order],
        scales=np.concatenate([scale, np.zeros(len(anchors), dtype=np.int64)])[order],
        masses=np.concatenate([weights[kept], np.ones(len(anchors), dtype=np.float32)])[order],
        starts=starts,
    )


def _table() -> NDArray[np.float32]:
    """`within_table` of NEARNESS_KM with a row for each bin and scale."""
    return within_table(NEARNESS_KM).reshape(-1, len(NEARNESS_KM))
