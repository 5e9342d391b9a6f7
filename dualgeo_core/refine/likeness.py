"""How like a query is to the photos that a refiner was calibrated on, and what is left of its evidence if it is not.

A query is compared with its own candidates in the two views before training (VIEW_SIMILARITIES). Its likeness is a
conformal p-value with photographers as the exchangeable unit (Dunn, Wasserman & Ramdas 2022, subsampling averaged).
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.geo import FloatArray
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.evidence import Evidence
from dualgeo_core.refine.kernels import RADII_KM

FULLY_TRUSTED = 0.1  # the share of calibration photos that must be less like the gallery for the full evidence to count
_TOLERATED = 0.2
_DIGITS = 4


@dataclass(frozen=True)
class Likeness:
    """The calibration photos' mean similarities by view (m, 2), and their photographers (m,), numbered from 0.

    `tolerance` is added to the score of every query, because a query may be in other light than the gallery.
    """

    similarity: FloatArray
    photographer: NDArray[np.int64]
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        assert len(self.similarity) == len(self.photographer) > 0

    @property
    def photographers(self) -> int:
        """The number of photographers. A p-value is at least 1 / (photographers + 1)."""
        return int(self.photographer.max()) + 1

    def share_less_like(self, evidence: Evidence, own: NDArray[np.int64] | None = None) -> FloatArray:
        """The share (n,) of calibration photos that are less like the gallery than each query.

        Every photographer counts the same. NaN for a query without view similarities. `own` (n,) is the number of the
        query's photographer, who is left out; -1 if there is none.
        """
        score, seen = self.score(view_similarities(evidence)) + self.tolerance, self.score(self.similarity)
        order = np.argsort(seen, kind="stable")
        weight = (1 / np.bincount(self.photographer))[self.photographer[order]]
        less = np.concatenate([[0.0], np.cumsum(weight)])[np.searchsorted(seen[order], score, side="right")]
        others = np.full(len(score), float(self.photographers))
        if own is not None:
            for row in np.flatnonzero(own >= 0):
                less[row] -= np.mean(seen[self.photographer == own[row]] <= score[row])
                others[row] -= 1
        return np.where(np.isfinite(score), np.maximum(less, 0) / (others + 1), np.nan)

    def score(self, similarity: FloatArray) -> FloatArray:
        """The sum over views (n,) of the similarity (n, 2) in standard deviations of the calibration photos."""
        spread = np.maximum(self.similarity.std(axis=0), 10.0**-_DIGITS)
        return ((similarity - self.similarity.mean(axis=0)) / spread).sum(axis=1)

    def p_value(self, share: FloatArray) -> FloatArray:
        """The p-value of each share that `share_less_like` returned."""
        return share + 1 / (self.photographers + 1)


def fit_likeness(
    evidence: Evidence, photographers: NDArray[np.int64], originals: NDArray[np.int64]
) -> tuple[Likeness | None, FloatArray]:
    """The likeness of photos by `photographers` (n,), and the share of others that are less like the gallery (n,).

    `originals` (n,) is the row of the photo of which a row is a copy in other light; -1 for photos as they were taken.
    The latter are what queries are compared with. The tolerance is what the mildest fifth of relighting takes from the
    score: relighting is harsher than the light of photos. None and NaN if the candidates have no view similarities.
    """
    similarity = view_similarities(evidence)
    known = np.isfinite(similarity).all(axis=1)
    taken = np.flatnonzero(known & (originals < 0))
    if not len(taken):
        return None, np.full(len(evidence), np.nan)
    numbers, names = pd.factorize(photographers[taken])
    likeness = Likeness(similarity=similarity[taken].round(_DIGITS), photographer=numbers.astype(np.int64))
    score = likeness.score(similarity)
    copies = np.flatnonzero(known & (originals >= 0))
    if len(copies):
        lost = np.nanquantile(score[originals[copies]] - score[copies], _TOLERATED)
        likeness = replace(likeness, tolerance=round(max(0.0, float(lost)), _DIGITS))
    return likeness, likeness.share_less_like(evidence, own=pd.Index(names).get_indexer(pd.Index(photographers)))


def view_similarities(evidence: Evidence) -> FloatArray:
    """The mean over candidates of each of VIEW_SIMILARITIES, (n, 2); NaN where a query has none."""
    columns = []
    for similarity in (evidence.encoder_similarity, evidence.mask_similarity):
        known = np.isfinite(similarity)
        total, count = np.where(known, similarity, 0).sum(axis=1), known.sum(axis=1)
        columns.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    return np.column_stack(columns)


def trust_of(share_less_like: FloatArray) -> FloatArray:
    """The part of the posterior (n,) that the evidence keeps, from 0 to 1; the rest goes to the prior."""
    return np.nan_to_num(np.minimum(share_less_like / FULLY_TRUSTED, 1), nan=1.0)


def tempered(
    mass: FloatArray, latitude: FloatArray, longitude: FloatArray, *, trust: FloatArray, density: PhotoDensity
) -> FloatArray:
    """The posterior mass (n, r) within RADII_KM if 1 - `trust` (n,) of it lies where photos are taken, anywhere."""
    doubted = np.flatnonzero(trust < 1)
    prior = density.share_within(latitude[doubted], longitude[doubted], RADII_KM)
    result = mass.copy()
    result[doubted] = trust[doubted, None] * mass[doubted] + (1 - trust[doubted, None]) * prior
    return result
