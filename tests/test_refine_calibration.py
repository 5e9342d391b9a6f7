"""Calibration: on photographers whom the fit did not see, with few of them, and what abstention keeps."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree
from scipy.special import expit, logit

from dualgeo_core.base.geo import EARTH_RADIUS_KM, THRESHOLDS_KM, destination, haversine_km
from dualgeo_core.refine.calibration import UNCALIBRATED, calibrate
from dualgeo_core.refine.density import WIDTHS_KM, PhotoDensity
from dualgeo_core.refine.evidence import gather_evidence
from dualgeo_core.refine.fit import fit_refiner
from dualgeo_core.refine.kernels import RADII_KM
from dualgeo_core.refine.posterior import locate, posterior
from dualgeo_core.refine.refiner import shipped_refiner

FLAT = PhotoDensity(  # the same everywhere, and no spot where photos crowd
    rasters=tuple(np.zeros((1, 1), np.float32) for _ in WIDTHS_KM),
    tree=cKDTree([[0.0, 0.0, -1.0]]),
    spot_count=np.zeros(1),
    spot_sum=np.zeros((1, 3)),
)
QUERIES = 60


def _opposite_photographers() -> tuple[pd.DataFrame, pd.DataFrame]:
    """(candidates, truth): Ann's first candidates are right and her second ones wrong; Bob's are the reverse."""
    random = np.random.default_rng(0)
    latitude, longitude = random.uniform(-60, 60, QUERIES), random.uniform(-180, 180, QUERIES)
    ids = [f"q{number}" for number in range(QUERIES)]
    first_is_right = np.arange(QUERIES) % 2 == 0
    truth = pd.DataFrame(
        {"id": ids, "latitude": latitude, "longitude": longitude, "author": np.where(first_is_right, "ann", "bob")}
    )
    ranks = []
    for rank, right in ((1, first_is_right), (2, ~first_is_right)):
        near = destination(latitude, longitude, random.uniform(0, 360, QUERIES), np.where(right, 0.5, 5000.0))
        ranks.append(pd.DataFrame({"id": ids, "rank": rank, "latitude": near[0], "longitude": near[1]}))
    return pd.concat(ranks, ignore_index=True), truth


def test_confidences_come_from_photographers_whom_the_fit_did_not_see() -> None:
    """A fit on either of the two photographers is wrong for all photos of the other, so its confidence is low."""
    candidates, truth = _opposite_photographers()
    refiner = fit_refiner(candidates=candidates, answers=None, truth=truth, density=FLAT)
    found = posterior(gather_evidence(candidates=candidates, answers=None), refiner=refiner, density=FLAT)
    error_km = haversine_km(found.latitude, found.longitude, truth["latitude"], truth["longitude"])
    assert (error_km < 25).mean() == pytest.approx(0.5, abs=0.1), "half of the photos that it was fitted on are right"
    assert found.confidence[:, THRESHOLDS_KM.index(25)].max() < 0.2


def _mass_of_radii(count: int) -> np.ndarray:
    """Posterior masses (count, r) that all grow alike with the radius."""
    return np.tile(np.linspace(0.02, 1, len(RADII_KM)), (count, 1))


@pytest.mark.parametrize(
    ("photographers", "quantile_50", "quantile_90"), [(4, 0.625, 1.0), (9, 5 / 9, 1.0), (90, 91 / 180, 0.91)]
)
def test_levels_make_up_for_few_photographers(photographers: int, quantile_50: float, quantile_90: float) -> None:
    """The quantile is q (1 + 1/photographers): with nine or fewer, the 90 % radius holds every error that was seen."""
    mass, codes = _mass_of_radii(180), np.arange(180) % photographers
    error_km = np.geomspace(0.3, 15_000, 180)
    seen = np.interp(np.log(error_km), np.log(RADII_KM), mass[0])
    found = calibrate(mass=mass, error_km=error_km, photographers=codes)
    assert found.level_50 == pytest.approx(np.quantile(seen, quantile_50))
    assert found.level_90 == pytest.approx(np.quantile(seen, quantile_90))


def test_the_half_radius_is_as_small_as_the_errors_of_photos_of_one_street() -> None:
    """Errors of 120 m, as the demo's: the 50 % radius covers half of them, although the refiner resolves no more."""
    random = np.random.default_rng(0)
    latitude, longitude = random.uniform(-60, 60, 400), random.uniform(-180, 180, 400)
    ids = [f"q{number}" for number in range(400)]
    near = destination(latitude, longitude, random.uniform(0, 360, 400), random.lognormal(np.log(0.12), 0.6, 400))
    candidates = pd.DataFrame({"id": ids, "rank": 1, "latitude": near[0], "longitude": near[1]})
    truth = pd.DataFrame({"id": ids, "latitude": latitude, "longitude": longitude, "author": np.arange(400) % 40})
    refiner = fit_refiner(candidates=candidates, answers=None, truth=truth, density=FLAT)
    found = posterior(gather_evidence(candidates=candidates, answers=None), refiner=refiner, density=FLAT)
    error_km = haversine_km(found.latitude, found.longitude, latitude, longitude)
    assert 0.4 < (error_km <= found.radius_50_km).mean() < 0.6
    assert np.median(found.radius_50_km) < 0.2


def test_abstention_keeps_as_many_answers_as_can_be_vouched_for() -> None:
    """Many answers that prove the risk are needed, and where one bound fails no lower one is tried."""
    risk = [
        [0.0, 1.0, 0.4, 1e4],
        [0.2, 0.8, 0.01, 1e4],
        [0.3, 0.7, 0.1, 1e4],
        [0.6, 0.4, 0.05, 1e3],
        [0.9, 0.1, 0.0, 9],
    ]
    calibration = replace(UNCALIBRATED, risk=risk)
    assert [calibration.least_confidence(most) for most in (0.5, 0.12, 0.07, 0.05)] == [0.0, 0.2, 0.6, float("inf")]
    few = replace(calibration, risk=[[*row[:3], row[3] / 100] for row in risk])
    assert few.least_confidence(0.12) == float("inf"), "the same shares of few answers prove nothing"


@pytest.mark.parametrize(("photos", "photographers"), [(60, 20), (1000, 95)])
def test_a_maximum_risk_is_kept_in_nine_fits_of_ten(photos: int, photographers: int) -> None:
    """Calibrated masses, and photographers who are harder or easier than their masses say."""
    random, limit, fits = np.random.default_rng(0), 0.1, 60

    def drawn(count: int, people: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(mass within radii, error in km, photographers) of so many photos by so many people."""
        codes = np.unique(random.integers(0, people, count), return_inverse=True)[1]
        within = random.beta(2, 0.7, count)
        odds = logit(np.clip(within, 1e-4, 1 - 1e-4)) + random.normal(0, 0.5, people)[codes]
        mass = np.where(np.array(RADII_KM) < 25, 0, np.where(np.array(RADII_KM) < 20_000, within[:, None], 1.0))
        return mass, np.where(random.random(count) < expit(odds), 5.0, 5000.0), codes

    mass, error_km, _ = drawn(40_000, people=4000)
    over, answered = [], []
    for _ in range(fits):
        fit = drawn(photos, people=photographers)
        calibration = calibrate(mass=fit[0], error_km=fit[1], photographers=fit[2])
        kept = calibration.confidences(mass)[:, THRESHOLDS_KM.index(25)] >= calibration.least_confidence(limit)
        over.append(kept.any() and (error_km[kept] > 25).mean() > limit)
        answered.append(kept.mean())
    assert np.mean(over) <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / fits)
    if photos == 1000:
        assert np.mean(answered) > 0.2, "it does not keep its promise by silence"


@pytest.mark.parametrize("photographers", [1, 8, 9])
def test_few_photographers_are_a_reason_for_doubt(photographers: int) -> None:
    calibration = calibrate(
        mass=_mass_of_radii(90), error_km=np.geomspace(0.3, 15_000, 90), photographers=np.arange(90) % photographers
    )
    assert (calibration.doubt is None) == (photographers >= 9)
    assert photographers >= 9 or f"{photographers} photographers" in str(calibration.doubt)


@pytest.mark.parametrize("background", [-10.0, 2.0, 50.0])
def test_the_mass_within_radii_counts_the_whole_earth(background: float) -> None:
    """All mass lies on the Earth; if the evidence weighs nothing, a radius holds the share of the Earth it covers."""
    candidates = pd.DataFrame({"id": ["q", "q"], "rank": [1, 2], "latitude": [10.0, 11.0], "longitude": [20.0, 21.0]})
    head = replace(shipped_refiner().alone, background=background)
    mass = locate(gather_evidence(candidates=candidates, answers=None), head=head, density=FLAT, trust=np.ones(1))[2][0]
    assert mass[-1] == pytest.approx(1, abs=1e-4)
    assert (np.diff(mass) >= 0).all()
    if background == 50:
        covered = (1 - np.cos(np.array(RADII_KM) / EARTH_RADIUS_KM)) / 2
        assert mass == pytest.approx(covered, abs=1e-6)
