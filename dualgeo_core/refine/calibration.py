"""Calibrated radii and confidences, and abstention at a maximum risk."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from dualgeo_core.base.geo import THRESHOLDS_KM, FloatArray
from dualgeo_core.refine.kernels import RADII_KM

LOG_RADII = np.log(np.array(RADII_KM))
_EDGE = 1e-4


@dataclass(frozen=True)
class Calibration:
    """Calibration of one head.

    `level_q` is the posterior mass whose radius holds the true place q % of the time. `confidence` has slope and
    intercept of the log odds by threshold. `risk` has rows of (confidence at 25 km, share of answers with at least
    that confidence, share of those that are wrong).
    """

    level_50: float
    level_90: float
    confidence: dict[str, list[float]]
    risk: list[list[float]]

    def confidences(self, mass: FloatArray) -> FloatArray:
        """Probabilities (n, thresholds) of an error within THRESHOLDS_KM; `mass` (n, r) is the mass within RADII_KM."""
        columns = []
        for threshold in THRESHOLDS_KM:
            slope, intercept = self.confidence[str(threshold)]
            columns.append(expit(slope * _log_odds(mass[:, RADII_KM.index(threshold)]) + intercept))
        return np.maximum.accumulate(np.column_stack(columns), axis=1)

    def least_confidence(self, max_risk: float) -> float:
        """The lowest confidence at 25 km with at most `max_risk` of the answers wrong; inf if there is none."""
        safe = [confidence for confidence, _, wrong in self.risk if wrong <= max_risk]
        return min(safe, default=float("inf"))


UNCALIBRATED = Calibration(level_50=0.5, level_90=0.9, confidence={}, risk=[])


def radius_at(mass: FloatArray, level: float) -> FloatArray:
    """The radius in km (n,) that holds `level` of the posterior; `mass` (n, r) is the mass within RADII_KM."""
    above = np.argmax(mass >= min(level, float(mass[:, -1].min(initial=1.0))), axis=1)
    below = np.maximum(above - 1, 0)
    rows = np.arange(len(mass))
    low, high = mass[rows, below], mass[rows, above]
    share = np.clip((level - low) / np.maximum(high - low, 1e-9), 0, 1)
    return np.exp(LOG_RADII[below] + share * (LOG_RADII[above] - LOG_RADII[below]))


def mass_within(mass: FloatArray, distance_km: FloatArray) -> FloatArray:
    """The posterior mass (n,) within each distance; the inverse of `radius_at`."""
    logs = np.log(np.maximum(distance_km, RADII_KM[0]))
    return np.array([np.interp(log, LOG_RADII, row) for log, row in zip(logs, mass, strict=True)])


def calibrate(*, mass: FloatArray, error_km: FloatArray, photographers: NDArray[np.int64]) -> Calibration:
    """The calibration from predictions on held-out photographers: `mass` (n, r) and errors in km (n,).

    The levels are split conformal with photographers as the exchangeable unit: the quantile of the pooled photos at
    q (1 + 1/photographers) (Dunn, Wasserman & Ramdas 2022, pooling of groups).
    """
    scores = mass_within(mass, error_km)
    groups = int(photographers.max()) + 1
    levels = [float(np.quantile(scores, min(1.0, q * (1 + 1 / groups)))) for q in (0.5, 0.9)]
    hits = error_km[:, None] <= np.array(THRESHOLDS_KM)
    confidence = {
        str(threshold): _fit_log_odds(_log_odds(mass[:, RADII_KM.index(threshold)]), hits[:, column])
        for column, threshold in enumerate(THRESHOLDS_KM)
    }
    fitted = Calibration(level_50=levels[0], level_90=levels[1], confidence=confidence, risk=[])
    sureness = fitted.confidences(mass)[:, THRESHOLDS_KM.index(25)]
    return Calibration(**{**vars(fitted), "risk": _risk_table(sureness, ~hits[:, THRESHOLDS_KM.index(25)])})


def _log_odds(share: FloatArray) -> FloatArray:
    return logit(np.clip(share, _EDGE, 1 - _EDGE))


def _fit_log_odds(odds: FloatArray, hit: NDArray[np.bool_]) -> list[float]:
    """Slope and intercept of a logistic regression, weakly regularised towards 1 and 0 (Platt 1999)."""
    from scipy.optimize import minimize

    def loss(parameters: FloatArray) -> float:
        z = parameters[0] * odds + parameters[1]
        prior = 0.5 * ((parameters[0] - 1) ** 2 + parameters[1] ** 2)
        return float(np.sum(np.logaddexp(0, np.where(hit, -z, z))) + prior)

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.05, 5), (-5, 5)]).x
    return [float(slope), float(intercept)]


def _risk_table(sureness: FloatArray, wrong: NDArray[np.bool_]) -> list[list[float]]:
    rows = []
    for bound in np.linspace(0, 0.98, 50):
        sure = sureness >= bound
        if sure.sum() >= 20:  # the share of wrong ones is unreliable for fewer answers
            rows.append([round(float(bound), 4), float(sure.mean()), float(wrong[sure].mean())])
    return rows
