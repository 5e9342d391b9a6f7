"""How often two photos of one album lie near each other, by the gap between them in the album's order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from dualgeo_core.base.geo import FloatArray, haversine_km
from dualgeo_core.refine.album.albums import Albums

NEARNESS_KM = (2.0, 25.0, 200.0, 750.0)
CITY = NEARNESS_KM.index(25.0)
_LEAST, _MOST = 1e-4, 0.97


@dataclass(frozen=True)
class NearnessRates:
    """Logistic regressions, one per NEARNESS_KM, on the logarithm of the gap and its excess over each knot.

    `knots` are powers of ten; the first and the last bound the gap. `weights` is (radii, features), `constant` (radii,)
    holds for two photos of which one has no place in the order.
    """

    knots: tuple[float, ...]
    weights: FloatArray
    constant: FloatArray

    def __call__(self, gap: FloatArray) -> NDArray[np.float32]:
        """The probability (..., radii) that two photos `gap` apart lie within each of NEARNESS_KM."""
        ordered = np.isfinite(gap)[..., None]
        by_gap = expit(_hinges(np.nan_to_num(gap), self.knots) @ self.weights.T)
        return np.clip(np.where(ordered, by_gap, self.constant), _LEAST, _MOST).astype(np.float32)


def fit_rates(albums: Albums, latitude: FloatArray, longitude: FloatArray, knots: tuple[float, ...]) -> NearnessRates:
    """The rates of photos with known places. Every photo weighs the same, however large its album is."""
    gaps, distances, weights = [], [], []
    for members in albums.members():
        first, second = np.triu_indices(len(members), 1)
        one, other = members[first], members[second]
        gaps.append(np.abs(albums.order[one] - albums.order[other]))
        distances.append(haversine_km(latitude[one], longitude[one], latitude[other], longitude[other]))
        weights.append(np.full(len(one), 2 / max(len(members) - 1, 1)))
    gap, distance, weight = (np.concatenate(parts) for parts in (gaps, distances, weights))
    near = distance[:, None] <= np.array(NEARNESS_KM)
    constant = np.average(near, axis=0, weights=weight)
    ordered = np.isfinite(gap)
    features = _hinges(gap[ordered], knots)
    fitted = [_logistic(features, near[ordered, column], weight[ordered]) for column in range(len(NEARNESS_KM))]
    return NearnessRates(knots=knots, weights=np.stack(fitted), constant=constant)


def _logistic(features: FloatArray, hit: NDArray[np.bool_], weight: FloatArray) -> FloatArray:
    model = LogisticRegression(C=1.0, max_iter=1000).fit(features[:, 1:], hit, sample_weight=weight)
    return np.concatenate([model.intercept_, model.coef_[0]])


def _hinges(gap: FloatArray, knots: tuple[float, ...]) -> FloatArray:
    """A constant, log10 of the gap between the outer knots, and how far it exceeds each inner knot: (..., features)."""
    log_gap = np.clip(np.log10(np.maximum(gap, 1e-12)), knots[0], knots[-1])[..., None]
    excess = np.maximum(0, log_gap - np.array(knots[1:-1]))
    return np.concatenate([np.ones_like(log_gap), log_gap, excess], axis=-1)
