"""How often two photos of one album lie near each other, by the gap between them in the album's order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from dualgeo_core.base.geo import FloatArray, haversine_km
from dualgeo_core.refine.album.albums import Albums

NEARNESS_KM = (2.0, 25.0, 200.0, 750.0)
CITY = NEARNESS_KM.index(25.0)
_LEAST, _MOST = 1e-4, 0.97
_KNOT_QUANTILES = (0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.97)  # finer where rates fall fast: at small gaps
_SMALLEST_GAP = 1e-3  # photos at the same place in the order


@dataclass(frozen=True)
class NearnessRates:
    """Logistic regressions, one per NEARNESS_KM, on the logarithm of the gap and its excess over each inner knot.

    `knots` are powers of ten; the first and the last bound the gap. `weights` is (radii, features). `constant` (radii,)
    is the rate for a pair of which one photo has no place in the order.
    """

    knots: tuple[float, ...]
    weights: FloatArray
    constant: FloatArray

    def __call__(self, gap: FloatArray) -> NDArray[np.float32]:
        """The probability (..., radii) that two photos `gap` apart lie within each of NEARNESS_KM."""
        by_gap = expit(_hinges(np.nan_to_num(gap), self.knots) @ self.weights.T)
        rate = np.where(np.isfinite(gap)[..., None], by_gap, self.constant)
        return np.clip(rate, _LEAST, _MOST).astype(np.float32)


def fit_rates(albums: Albums, latitude: FloatArray, longitude: FloatArray) -> NearnessRates:
    """The rates of photos with known places. Every photo weighs the same, however large its album is."""
    gap, distance, weight = _album_pairs(albums, latitude, longitude)
    near = distance[:, None] <= np.array(NEARNESS_KM)
    constant = np.average(near, axis=0, weights=weight)
    ordered = np.isfinite(gap)
    if not ordered.any():
        return NearnessRates(knots=(), weights=np.zeros((len(NEARNESS_KM), 0)), constant=constant)
    gap, near, weight = gap[ordered], near[ordered], weight[ordered]
    knots = _knots(gap, weight)
    features = _hinges(gap, knots)
    weights = np.stack([_logistic(features, near[:, column], weight) for column in range(len(NEARNESS_KM))])
    return NearnessRates(knots=knots, weights=weights, constant=constant)


def _album_pairs(
    albums: Albums, latitude: FloatArray, longitude: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gap, distance in km and weight of each pair of photos of one album."""
    gaps, distances, weights = [], [], []
    for members in albums.members():
        first, second = np.triu_indices(len(members), 1)
        one, other = members[first], members[second]
        gaps.append(np.abs(albums.order[one] - albums.order[other]))
        distances.append(haversine_km(latitude[one], longitude[one], latitude[other], longitude[other]))
        weights.append(np.full(len(one), 2 / max(len(members) - 1, 1)))
    return np.concatenate(gaps), np.concatenate(distances), np.concatenate(weights)


def _knots(gap: FloatArray, weight: FloatArray) -> tuple[float, ...]:
    """_KNOT_QUANTILES of the logarithm of the gap, by weight."""
    rank = np.argsort(gap)
    share = np.cumsum(weight[rank]) / weight.sum()
    return tuple(np.interp(_KNOT_QUANTILES, share, _log_gap(gap[rank])).round(3).tolist())


def _logistic(features: FloatArray, hit: NDArray[np.bool_], weight: FloatArray) -> FloatArray:
    from sklearn.linear_model import LogisticRegression

    if hit.all() or not hit.any():
        rate = logit(np.clip(hit[0], _LEAST, _MOST))
        return np.concatenate([[rate], np.zeros(features.shape[1] - 1)])
    model = LogisticRegression(C=1.0, max_iter=1000).fit(features[:, 1:], hit, sample_weight=weight)
    return np.concatenate([model.intercept_, model.coef_[0]])


def _log_gap(gap: FloatArray) -> FloatArray:
    return np.log10(np.maximum(gap, _SMALLEST_GAP))


def _hinges(gap: FloatArray, knots: tuple[float, ...]) -> FloatArray:
    """A constant, log10 of the gap between the outer knots, and how far it exceeds each inner knot: (..., features)."""
    if not knots:
        return np.zeros((*gap.shape, 0))
    log_gap = np.clip(_log_gap(gap), knots[0], knots[-1])[..., None]
    return np.concatenate([np.ones_like(log_gap), log_gap, np.maximum(0, log_gap - np.array(knots[1:-1]))], axis=-1)
