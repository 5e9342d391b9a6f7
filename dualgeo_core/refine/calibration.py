"""Calibrated radii and confidences, and abstention at a maximum risk."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit

from dualgeo_core.base.geo import THRESHOLDS_KM, FloatArray
from dualgeo_core.refine.kernels import RADII_KM

LOG_RADII = np.log(np.array(RADII_KM))
SURENESS = 0.9  # the probability with which a maximum risk is kept
FEWEST_PHOTOGRAPHERS = 9  # with fewer, the conformal level of a 90 % radius would exceed 1
# The first test has this many times the answers that it needs if all are right: one error does not end the tests.
_FIRST_TEST = 3
_EDGE = 1e-4


@dataclass(frozen=True)
class Calibration:
    """Calibration of one head.

    `level_q` is the posterior mass whose radius holds the true place q % of the time. `confidence` has slope and
    intercept of the log odds by threshold. `risk` has rows of (confidence at 25 km, share of answers with at least
    that confidence, share of those that are wrong, their effective number). `photographers` is their number.
    """

    level_50: float
    level_90: float
    confidence: dict[str, list[float]]
    risk: list[list[float]]
    photographers: int

    def confidences(self, mass: FloatArray) -> FloatArray:
        """Probabilities (n, thresholds) of an error within THRESHOLDS_KM; `mass` (n, r) is the mass within RADII_KM."""
        columns = []
        for threshold in THRESHOLDS_KM:
            slope, intercept = self.confidence[str(threshold)]
            columns.append(expit(slope * _log_odds(mass[:, RADII_KM.index(threshold)]) + intercept))
        return np.maximum.accumulate(np.column_stack(columns), axis=1)

    def least_confidence(self, max_risk: float) -> float:
        """The confidence at 25 km from which on at most `max_risk` of the answers are wrong, with probability SURENESS.

        inf if none is known. Bounds are tested from the highest confidence down until one fails (learn then test with a
        fixed sequence: Angelopoulos et al. 2021). The first one has enough answers to succeed despite an error.
        """
        fewest = _FIRST_TEST * math.log(1 - SURENESS) / math.log(1 - max_risk)
        allowed = math.inf
        for confidence, _, wrong, effective in sorted(self.risk, reverse=True):
            if effective < fewest:
                continue
            if _most_wrong(wrong, effective) > max_risk:
                break
            allowed = confidence
        return allowed

    @property
    def doubt(self) -> str | None:
        """Why the radii may not hold what they promise; None if there is no reason."""
        if self.photographers >= FEWEST_PHOTOGRAPHERS:
            return None
        return (
            f"the radii are calibrated on {self.photographers} photographers, and a 90 % radius needs "
            f"{FEWEST_PHOTOGRAPHERS}"
        )


# The posterior's own mass, as it is.
UNCALIBRATED = Calibration(
    level_50=0.5,
    level_90=0.9,
    confidence={str(threshold): [1.0, 0.0] for threshold in THRESHOLDS_KM},
    risk=[],
    photographers=0,
)


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
    fitted = Calibration(level_50=levels[0], level_90=levels[1], confidence=confidence, risk=[], photographers=groups)
    sureness = fitted.confidences(mass)[:, THRESHOLDS_KM.index(25)]
    wrong = ~hits[:, THRESHOLDS_KM.index(25)]
    return replace(fitted, risk=_risk_table(sureness, wrong, photographers))


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


def _risk_table(sureness: FloatArray, wrong: NDArray[np.bool_], photographers: NDArray[np.int64]) -> list[list[float]]:
    likeness = _intraclass_correlation(wrong - (1 - sureness), photographers)
    rows = []
    for bound in np.linspace(0, 0.98, 50):
        sure = sureness >= bound
        if sure.any():
            answers = np.bincount(photographers[sure])
            design_effect = 1 + ((answers**2).sum() / answers.sum() - 1) * likeness  # Kish 1965
            effective = float(answers.sum() / design_effect)
            rows.append([round(float(bound), 4), float(sure.mean()), float(wrong[sure].mean()), effective])
    return rows


def _intraclass_correlation(residual: FloatArray, photographers: NDArray[np.int64]) -> float:
    """How alike the residuals (n,) of one photographer are, 0 to 1 (analysis of variance); 1 for one photographer."""
    sizes = np.bincount(photographers)
    groups, n = len(sizes), len(residual)
    if groups < 2:
        return 1.0
    if n == groups:
        return 0.0
    means = np.bincount(photographers, residual) / sizes
    between = float((sizes * (means - residual.mean()) ** 2).sum()) / (groups - 1)
    within = float(((residual - means[photographers]) ** 2).sum()) / (n - groups)
    size = (n - float((sizes**2).sum()) / n) / (groups - 1)
    total = between + (size - 1) * within
    return float(np.clip((between - within) / total, 0, 1)) if total > 0 else 1.0


def _most_wrong(wrong: float, effective: float) -> float:
    """The upper bound of the share of wrong answers, with probability SURENESS (Clopper-Pearson)."""
    return 1.0 if wrong >= 1 else float(betaincinv(wrong * effective + 1, (1 - wrong) * effective, SURENESS))
