"""Features of candidates and answers: rank, support by others, photo density, distance to answers, granularity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.geo import unit_vectors
from dualgeo_core.refine.density import WIDTHS_KM, PhotoDensity
from dualgeo_core.refine.evidence import Evidence
from dualgeo_core.refine.granularity import GRANULARITIES
from dualgeo_core.refine.kernels import RANK_DECAY, SUPPORT_KM, distance_bins, look_up, support_tables
from dualgeo_core.refine.tables import SCORES

Features = NDArray[np.float32]
_SUPPORT_FLOOR = 0.02
NAMED = GRANULARITIES[:-1]  # an `unknown` place is not evidence
CANDIDATE_FEATURES = {
    False: (
        *("one", "log rank", "is first"),
        *(f"support {s:g} km" for s in SUPPORT_KM),
        *(f"density {w:g} km" for w in WIDTHS_KM),
        *SCORES,
    ),
    True: ("one", "log rank", "is first", *(f"answer within {s:g} km" for s in SUPPORT_KM), *SCORES),
}


@dataclass(frozen=True)
class Pairs:
    """Candidates, then answers, as points: unit vectors (n, m, 3), valid points (n, m), distance bins (n, m, m)."""

    vectors: NDArray[np.float64]
    known: NDArray[np.bool_]
    bins: NDArray[np.intp]

    def take(self, rows: NDArray[np.int64]) -> "Pairs":
        """The queries `rows`."""
        return Pairs(vectors=self.vectors[rows], known=self.known[rows], bins=self.bins[rows])


def pairs_of(evidence: Evidence) -> Pairs:
    """The points of each query and the distances between them."""
    latitude = np.concatenate([evidence.latitude, evidence.answer_latitude], axis=1)
    longitude = np.concatenate([evidence.longitude, evidence.answer_longitude], axis=1)
    known = np.isfinite(latitude)
    vectors = unit_vectors(np.where(known, latitude, 0), np.where(known, longitude, 0))
    return Pairs(vectors=vectors, known=known, bins=distance_bins(vectors, vectors))


def candidate_features(
    evidence: Evidence, pairs: Pairs, *, density: PhotoDensity, answered: bool, score_scales: dict[str, float]
) -> Features:
    """CANDIDATE_FEATURES[answered] of each candidate, (n, k, features)."""
    n, k = evidence.latitude.shape
    features = np.zeros((n, k, len(CANDIDATE_FEATURES[answered])), dtype=np.float32)
    rank = np.arange(1, k + 1)
    features[..., 0] = 1
    features[..., 1] = np.log(rank) - 2
    features[..., 2] = rank == 1
    after = 3 + len(SUPPORT_KM)
    if answered:
        share = pairs.known[:, k:] / np.maximum(pairs.known[:, k:].sum(axis=1, keepdims=True), 1)
        features[..., 3:after] = _gathered(pairs.bins[:, :k, k:], share)
    else:
        weight = np.where(pairs.known[:, :k], rank**-RANK_DECAY, 0).astype(np.float32)
        weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), np.float32(1e-9))
        company = _gathered(pairs.bins[:, :k, :k], weight) - weight[..., None]
        features[..., 3:after] = np.log(np.maximum(company, np.float32(0)) + np.float32(_SUPPORT_FLOOR))
        features[..., after : after + len(WIDTHS_KM)] = density.log_density(evidence.latitude, evidence.longitude)
    for column, name in enumerate(SCORES, start=len(CANDIDATE_FEATURES[answered]) - len(SCORES)):
        if name in score_scales:
            features[..., column] = score_gap(getattr(evidence, name)) / score_scales[name]
    return features


def score_gap(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each candidate's score minus the query's best score (n, k); 0 for missing scores."""
    known = np.isfinite(score)
    best = np.where(known, score, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    return np.subtract(score, best, out=np.zeros_like(score), where=known)


def answer_features(evidence: Evidence) -> Features:
    """Features of each answer, (n, a, features): a constant, and one indicator for each of NAMED."""
    named = evidence.answer_granularity[..., None] == np.array(NAMED, dtype=object)
    return np.concatenate([np.ones((*named.shape[:2], 1)), named], axis=2).astype(np.float32)


def _gathered(bins: NDArray[np.intp], weight: NDArray[Any]) -> Features:
    """Sums (n, i, supports) of exp(-d/s) over the last axis of `bins` (n, i, j), weighted by `weight` (n, j)."""
    column = weight.astype(np.float32)[..., None]
    sums = np.empty((*bins.shape[:2], len(SUPPORT_KM)), dtype=np.float32)
    for index, table in enumerate(support_tables()):
        sums[..., index] = np.matmul(look_up(table, bins), column)[..., 0]
    return sums
