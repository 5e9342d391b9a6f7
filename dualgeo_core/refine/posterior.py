"""The posterior on the sphere: a mixture of kernels around candidates and answers, at several scales.

Each candidate and answer has one weight per scale of SCALES_KM, log-linear in a few features. The position is the
candidate or answer with the greatest expected number of THRESHOLDS_KM met; one mean-shift step then moves it towards
nearby photos.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.geo import EARTH_RADIUS_KM, THRESHOLDS_KM, FloatArray, coordinates
from dualgeo_core.refine.calibration import radius_at
from dualgeo_core.refine.density import SPOT_RADIUS_KM, PhotoDensity
from dualgeo_core.refine.evidence import Evidence
from dualgeo_core.refine.features import Pairs, answer_features, candidate_features, pairs_of
from dualgeo_core.refine.kernels import (
    RADII_KM,
    SCALES_KM,
    bin_distances_km,
    distance_bins,
    hits_table,
    look_up,
    within_table,
)
from dualgeo_core.refine.likeness import tempered, trust_of
from dualgeo_core.refine.refiner import Head, Refiner

CHUNK = 512  # queries per batch: enough to amortise calls, few enough for the CPU cache
_OWN_WEIGHT = 3.0  # of the position and of each point near it, relative to one photo of the prior
_AREA = (1 - np.cos(np.array(RADII_KM) / EARTH_RADIUS_KM)) / 2  # share of the sphere within RADII_KM


@dataclass(frozen=True)
class Posterior:
    """Per query (n,): position, radii that hold the true place 50 and 90 % of the time, confidence (n, thresholds).

    `likeness` is the p-value of the query being like the calibration photos; NaN if it is not known.
    """

    latitude: FloatArray
    longitude: FloatArray
    radius_50_km: FloatArray
    radius_90_km: FloatArray
    confidence: FloatArray
    likeness: FloatArray


def posterior(evidence: Evidence, *, refiner: Refiner, density: PhotoDensity) -> Posterior:
    """The posterior of each query; NaN for queries with neither candidates nor answers."""
    n = len(evidence)
    latitude, longitude, radius_50, radius_90 = np.full((4, n), np.nan)
    likeness, trust = likeness_of(evidence, refiner)
    found = Posterior(latitude, longitude, radius_50, radius_90, np.full((n, len(THRESHOLDS_KM)), np.nan), likeness)
    answered = evidence.has_answers
    for head, rows in (
        (refiner.alone, np.flatnonzero(evidence.has_candidates & ~answered)),
        (refiner.answered, np.flatnonzero(answered)),
    ):
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            latitude[chunk], longitude[chunk], mass = locate(
                evidence.take(chunk), head=head, density=density, trust=trust[chunk]
            )
            found.radius_50_km[chunk] = radius_at(mass, head.calibration.level_50)
            found.radius_90_km[chunk] = radius_at(mass, head.calibration.level_90)
            found.confidence[chunk] = head.calibration.confidences(mass)
    return found


def likeness_of(evidence: Evidence, refiner: Refiner) -> tuple[FloatArray, FloatArray]:
    """Per query (n,): the p-value of being like the calibration photos, and the trust in its evidence.

    An answer is evidence apart from the gallery, so a query with one is trusted. The p-value is NaN if it is not known.
    """
    if refiner.likeness is None:
        return np.full(len(evidence), np.nan), np.ones(len(evidence))
    share = refiner.likeness.share_less_like(evidence)
    return refiner.likeness.p_value(share), np.where(evidence.has_answers, 1.0, trust_of(share))


def locate(
    evidence: Evidence, *, head: Head, density: PhotoDensity, trust: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Latitude (n,), longitude (n,) and the posterior mass (n, r) within RADII_KM of that position, by one head.

    `trust` (n,) is the part of the posterior that the evidence keeps.
    """
    pairs = pairs_of(evidence)
    weights, background = component_weights(evidence, pairs, head=head, density=density)
    latitude, longitude, mass = best_position(pairs, weights, background, snaps=head.snaps, density=density)
    return latitude, longitude, tempered(mass, latitude, longitude, trust=trust, density=density)


def best_position(
    pairs: Pairs,
    weights: NDArray[np.float32],
    background: NDArray[np.float32],
    *,
    snaps: bool,
    density: PhotoDensity,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The best position under a mixture: latitude (n,), longitude (n,), and the mass within RADII_KM of it (n, r)."""
    n, m = pairs.known.shape
    flat = weights.reshape(n, m * len(SCALES_KM), 1)
    expected = np.matmul(look_up(hits_table(THRESHOLDS_KM), pairs.bins).reshape(n, m, -1), flat)[..., 0]
    best = np.argmax(np.where(pairs.known, expected, -1.0), axis=1)
    position = pairs.vectors[np.arange(n), best]
    if snaps:
        position = _snapped(position, pairs, best=best, density=density)
    direction = position / np.linalg.norm(position, axis=1, keepdims=True)
    bins = distance_bins(direction[:, None], pairs.vectors)[:, 0]
    within = look_up(within_table(RADII_KM), bins).reshape(n, m * len(SCALES_KM), -1)
    mass = np.matmul(weights.reshape(n, 1, -1), within)[:, 0].astype(np.float64) + background[:, None] * _AREA
    latitude, longitude = coordinates(position)
    return latitude, longitude, mass


def component_weights(
    evidence: Evidence, pairs: Pairs, *, head: Head, density: PhotoDensity
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of the kernels (n, points, scales) and of the uniform background (n,); their sum per query is 1."""
    weights = np.empty((*pairs.known.shape, len(SCALES_KM)), dtype=np.float32)
    n, k = evidence.latitude.shape
    answered = len(head.answer) > 0
    features = candidate_features(evidence, pairs, density=density, answered=answered, score_scales=head.score_scales)
    weights[:, :k] = (features.reshape(n * k, features.shape[2]) @ head.candidate).reshape(n, k, len(SCALES_KM))
    weights[:, k:] = answer_features(evidence) @ head.answer if answered else -np.inf
    samples = np.maximum(pairs.known[:, k:].sum(axis=1), 1).astype(np.float32)
    weights[:, k:] -= np.log(samples)[:, None, None]  # several samples share the weight of one answer
    np.copyto(weights, -np.inf, where=~pairs.known[..., None])
    peak = np.maximum(weights.max(axis=(1, 2)), head.background)
    np.exp(weights - peak[:, None, None], out=weights)
    background = np.exp(head.background - peak)
    total = weights.sum(axis=(1, 2)) + background
    weights /= total[:, None, None]
    return weights, background / total


def _snapped(position: FloatArray, pairs: Pairs, *, best: NDArray[np.int64], density: PhotoDensity) -> FloatArray:
    """Positions after one mean-shift step within SPOT_RADIUS_KM, over candidates, answers and photos of the prior."""
    near = pairs.known & (bin_distances_km()[pairs.bins[np.arange(len(best)), best]] <= SPOT_RADIUS_KM)
    count, total = density.spots(position)
    gathered = np.einsum("nj,njd->nd", near, pairs.vectors)
    moved = _OWN_WEIGHT * (position + gathered) + total
    return moved / (_OWN_WEIGHT * (1 + near.sum(axis=1)) + count)[:, None]
