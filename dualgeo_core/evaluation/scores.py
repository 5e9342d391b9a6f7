"""Scores of predictions: accuracy by distance, median error and coverage of the radii, with 95 % intervals.

Errors on photos of the same photographer are correlated, so the bootstrap resamples photographers, not photos.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import THRESHOLDS_KM, haversine_km
from dualgeo_core.photos.photographers import photographer_codes

METRICS = tuple(f"acc_{threshold}km" for threshold in THRESHOLDS_KM)
INTERVAL = (2.5, 97.5)
FEWEST_PHOTOGRAPHERS = 5  # resamples of fewer photographers repeat each other, so that the interval is too narrow
TOO_FEW = f"too few photographers to tell (fewer than {FEWEST_PHOTOGRAPHERS})"


def enough_photographers(truth: pd.DataFrame) -> bool:
    """Whether these photos have the FEWEST_PHOTOGRAPHERS that an interval needs."""
    return len(set(photographer_codes(truth))) >= FEWEST_PHOTOGRAPHERS


def errors_km(predictions: pd.DataFrame, truth: pd.DataFrame) -> NDArray[np.float64]:
    """Distance in km from each photo of `truth` to its prediction, in the order of `truth`; inf without a prediction.

    Raises InputError if `predictions` contain a photo twice, or a photo that is not in `truth`.
    """
    found = _aligned(predictions, truth)
    distance = haversine_km(found["latitude"], found["longitude"], truth["latitude"], truth["longitude"])
    return np.where(np.isfinite(distance), distance, np.inf)


def evaluate(
    *, predictions: pd.DataFrame, truth: pd.DataFrame, bootstrap_samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Scores of `predictions` (id, latitude, longitude[, radius_50_km, radius_90_km]) on `truth` (id, ..., author).

    Shares are in percent, distances in km. `<name>_interval` is the 95 % interval of the photographer-clustered
    bootstrap; None with fewer than FEWEST_PHOTOGRAPHERS. A photo without a prediction counts as wrong; coverage counts
    only photos that have a radius. A score without any finite value is None. Raises InputError as `errors_km`.
    """
    errors = errors_km(predictions, truth)
    photographers = photographer_codes(truth)
    weights = _resampled_weights(photographers, samples=bootstrap_samples, seed=seed)
    scores: dict[str, Any] = {
        "n": len(truth),
        "n_missing": int(np.isinf(errors).sum()),
        "photographers": int(photographers.max()) + 1,
    }
    for name, threshold in zip(METRICS, THRESHOLDS_KM, strict=True):
        _add_share(scores, name, hit=errors <= threshold, counted=np.ones(len(errors), bool), weights=weights)
    scores["median_km"] = _finite(np.median(errors))
    scores["median_km_interval"] = _median_interval(errors, weights)
    found = _aligned(predictions, truth)
    for level in (50, 90):
        radius = found.get(f"radius_{level}_km", pd.Series(np.nan, index=found.index)).to_numpy(np.float64)
        counted = np.isfinite(radius) & np.isfinite(errors)
        _add_share(scores, f"coverage_{level}", hit=errors <= radius, counted=counted, weights=weights)
        scores[f"median_radius_{level}_km"] = _finite(np.median(radius[counted])) if counted.any() else None
    if not enough_photographers(truth):
        scores |= {name: None for name in scores if name.endswith("_interval")}
    return scores


def paired_difference(
    *,
    challenger: pd.DataFrame,
    champion: pd.DataFrame,
    truth: pd.DataFrame,
    bootstrap_samples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Challenger minus champion for each metric of METRICS: difference and 95 % interval in points, and p-value.

    Both are scored on the same photos and the same resamples of photographers (paired bootstrap). `p_value` is
    two-sided: twice the share of resamples on the other side of zero, at least 1 / resamples. Raises InputError with
    fewer than FEWEST_PHOTOGRAPHERS.
    """
    if not enough_photographers(truth):
        raise InputError(f"the photos have {TOO_FEW}; add photos by others")
    challenger_errors, champion_errors = errors_km(challenger, truth), errors_km(champion, truth)
    weights = _resampled_weights(photographer_codes(truth), samples=bootstrap_samples, seed=seed)
    result = {}
    for name, threshold in zip(METRICS, THRESHOLDS_KM, strict=True):
        gain = (challenger_errors <= threshold).astype(float) - (champion_errors <= threshold).astype(float)
        resampled = 100 * (weights @ gain) / weights.sum(axis=1)
        low, high = np.percentile(resampled, INTERVAL)
        beyond = 2 * min(float((resampled <= 0).mean()), float((resampled >= 0).mean()))
        result[name] = {
            "difference": 100 * float(gain.mean()),
            "low": float(low),
            "high": float(high),
            "p_value": min(1.0, max(beyond, 1 / bootstrap_samples)),
        }
    return result


def accuracy_by_coverage(
    *, predictions: pd.DataFrame, truth: pd.DataFrame, threshold_km: float = 25, confidence: str = "confidence_25km"
) -> pd.DataFrame:
    """Accuracy over coverage if only the most confident photos are answered: columns `coverage`, `accuracy` (percent).

    Rows are ordered by falling confidence. A photo without a prediction comes last.
    """
    sureness = _aligned(predictions, truth)[confidence].to_numpy(np.float64)
    order = np.argsort(-np.nan_to_num(sureness, nan=-1.0), kind="stable")
    hit = (errors_km(predictions, truth) <= threshold_km)[order]
    answered = np.arange(1, len(hit) + 1)
    return pd.DataFrame({"coverage": 100 * answered / len(hit), "accuracy": 100 * np.cumsum(hit) / answered})


def _aligned(predictions: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    if len(truth) == 0:
        raise InputError("the truth has no photos; it needs at least one row")
    twice = predictions["id"][predictions["id"].duplicated()]
    if len(twice):
        raise InputError(f"the predictions contain {twice.iloc[0]!r} twice; keep one row per photo")
    unknown = predictions["id"][~predictions["id"].isin(truth["id"])]
    if len(unknown):
        raise InputError(
            f"the predictions contain {unknown.iloc[0]!r}, which is not in the truth; remove it or add it there"
        )
    return predictions.set_index("id").reindex(truth["id"])


def _resampled_weights(photographers: NDArray[np.int64], *, samples: int, seed: int) -> NDArray[np.float32]:
    """The number of times each photo occurs in each resample of photographers, shape (samples, photos)."""
    count = int(photographers.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    return draws.astype(np.float32)[:, photographers]


def _add_share(
    scores: dict[str, Any],
    name: str,
    *,
    hit: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    weights: NDArray[np.float32],
) -> None:
    if not counted.any():
        scores[name] = scores[f"{name}_interval"] = None
        return
    totals = weights[:, counted].sum(axis=1)
    resampled = 100 * (weights[:, counted] @ hit[counted].astype(np.float32))[totals > 0] / totals[totals > 0]
    scores[name] = 100 * float(hit[counted].mean())
    scores[f"{name}_interval"] = [float(bound) for bound in np.percentile(resampled, INTERVAL)]


def _median_interval(errors: NDArray[np.float64], weights: NDArray[np.float32]) -> list[float | None]:
    order = np.argsort(errors)
    below = np.cumsum(weights[:, order], axis=1)
    medians = errors[order][np.argmax(below >= below[:, -1:] / 2, axis=1)]
    return [_finite(np.percentile(medians, bound, method="nearest")) for bound in INTERVAL]


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
