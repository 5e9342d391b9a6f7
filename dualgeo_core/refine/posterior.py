"""The posterior on the sphere: a mixture of kernels round candidates and answers, read at the points it is made of."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.geo import haversine_km
from dualgeo_core.refine.evidence import Evidence

Array = NDArray[np.float64]
SCALES_KM = (1.0, 25.0, 200.0, 750.0)


@dataclass(frozen=True)
class Refiner:
    """Fitted parameters of the posterior."""

    rank_decay: float = 0.3
    answer_share: float = 0.25


@dataclass(frozen=True)
class Posterior:
    """Per query (n,): where it most likely is, radii that hold it 50 and 90 % of the time, confidence by threshold."""

    latitude: Array
    longitude: Array
    radius_50_km: Array
    radius_90_km: Array
    confidence_25km: Array


def posterior(evidence: Evidence, *, refiner: Refiner) -> Posterior:
    """The posterior of each query; NaN where it has neither candidates nor answers."""
    blank = np.full((len(evidence), 1), np.nan)
    latitude = np.concatenate([evidence.latitude, evidence.answer_latitude, blank], axis=1)
    longitude = np.concatenate([evidence.longitude, evidence.answer_longitude, blank], axis=1)
    weight = _weights(evidence, refiner)
    distance = haversine_km(latitude[:, :, None], longitude[:, :, None], latitude[:, None], longitude[:, None])
    closeness = sum(np.exp(-np.nan_to_num(distance) / scale) for scale in SCALES_KM)
    density = np.where(np.isfinite(latitude), np.einsum("nij,nj->ni", closeness, weight), -1.0)
    best = np.argmax(density, axis=1)[:, None]
    nothing = np.full(len(evidence), np.nan)
    return Posterior(
        latitude=np.take_along_axis(latitude, best, axis=1)[:, 0],
        longitude=np.take_along_axis(longitude, best, axis=1)[:, 0],
        radius_50_km=nothing,
        radius_90_km=nothing,
        confidence_25km=nothing,
    )


def _weights(evidence: Evidence, refiner: Refiner) -> Array:
    by_rank = np.arange(1, evidence.latitude.shape[1] + 1) ** -refiner.rank_decay
    candidate = np.where(np.isfinite(evidence.latitude), by_rank, 0.0)
    candidate /= np.maximum(candidate.sum(axis=1, keepdims=True), 1e-12)
    answer = np.isfinite(evidence.answer_latitude).astype(float)
    answer /= np.maximum(answer.sum(axis=1, keepdims=True), 1e-12)
    return np.concatenate(
        [
            (1 - refiner.answer_share) * candidate,
            refiner.answer_share * answer,
            0 * answer[:, :1] if answer.shape[1] else np.zeros((len(answer), 1)),
        ],
        axis=1,
    )
