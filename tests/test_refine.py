"""Refinement: clusters on the sphere, the posterior's geometry, the effect of answers, and calibrated radii."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_candidates import made_benchmark

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import coordinates, destination, haversine_km, unit_vectors
from dualgeo_core.evaluation.scores import evaluate
from dualgeo_core.refine.calibration import radius_at
from dualgeo_core.refine.clusters import clusters_of, hdbscan_labels
from dualgeo_core.refine.density import density_of, shipped_density
from dualgeo_core.refine.evidence import gather_evidence
from dualgeo_core.refine.fit import fit_refiner
from dualgeo_core.refine.granularity import granularity_of
from dualgeo_core.refine.kernels import (
    RADII_KM,
    SCALES_KM,
    bin_distances_km,
    distance_bins,
    log_kernel,
    within_table,
)
from dualgeo_core.refine.places import place_names
from dualgeo_core.refine.posterior import posterior
from dualgeo_core.refine.predict import predict
from dualgeo_core.refine.refiner import load_refiner, save_refiner, shipped_refiner
from dualgeo_core.settings import RefinementSettings

SETTINGS = RefinementSettings()
PARIS, LONDON, TOKYO = (48.85, 2.35), (51.5, -0.1), (35.7, 139.7)


def _city(centre, count, radius_km=4.0, seed=0):
    random = np.random.default_rng(seed)
    return destination(
        np.full(count, centre[0]),
        np.full(count, centre[1]),
        random.uniform(0, 360, count),
        random.uniform(0, radius_km, count),
    )


def _candidates(*places, photo_id="q", **columns):
    latitude, longitude = (np.concatenate([np.atleast_1d(place[axis]) for place in places]) for axis in (0, 1))
    ranks = np.arange(1, len(latitude) + 1)
    return pd.DataFrame(
        {"id": photo_id, "kind": "similar", "rank": ranks, "latitude": latitude, "longitude": longitude, **columns}
    )


def _answer(latitude, longitude, location="Old Bridge", photo_id="q", **columns):
    told = {"id": [photo_id], "model": "m", "latitude": [latitude], "longitude": [longitude], "location": location}
    return pd.DataFrame({**told, **columns})


def _predict(candidates, answers=None, method="posterior", **changes):
    return predict(
        candidates=candidates, answers=answers, method=method, params=None, settings=SETTINGS.model_copy(update=changes)
    )


def _labels(*places):
    latitude, longitude = (np.concatenate([place[axis] for place in places]) for axis in (0, 1))
    return hdbscan_labels(latitude, longitude, radius_km=25.0).tolist()


@pytest.mark.parametrize("centre", [PARIS, (-17.0, 180.0), (89.99, 0.0), (-89.99, 77.0)])
def test_one_tight_city_is_one_cluster_anywhere(centre):
    assert _labels(_city(centre, 20)) == [0] * 20
    latitude, longitude = _city(centre, 20)
    cluster = clusters_of(latitude, longitude, np.full(20, np.nan), radius_km=25.0)[0]
    assert haversine_km(cluster.latitude, cluster.longitude, *centre) < 4
    assert cluster.radius_km < 8
    assert cluster.mass == pytest.approx(1)


def test_cities_are_told_apart_and_scatter_is_none():
    scatter = coordinates(np.random.default_rng(3).normal(size=(8, 3)))
    labels = _labels(_city(PARIS, 5), _city(LONDON, 5), _city(TOKYO, 5), scatter)
    assert [len(set(labels[start : start + 5])) for start in (0, 5, 10)] == [1, 1, 1]
    assert len({labels[0], labels[5], labels[10]}) == 3
    assert -1 not in labels[:15]
    assert set(labels[15:]) == {-1}
    assert _labels(scatter) == [-1] * 8
    assert _labels(_city(PARIS, 1)) == [-1]


def test_clusters_come_by_mass_with_their_place():
    latitude, longitude = (np.concatenate(pair) for pair in zip(_city(PARIS, 3), _city(TOKYO, 9), strict=True))
    first, second = clusters_of(latitude, longitude, np.full(12, np.nan), radius_km=25.0)
    assert first.mass > second.mass
    assert first.place.endswith("Japan")
    assert second.place.endswith("France")
    by_similarity = np.where(np.arange(12) < 3, 0.9, 0.1)
    assert clusters_of(latitude, longitude, by_similarity, radius_km=25.0)[0].place.endswith("France")


def test_places_are_named_across_the_date_line_and_far_from_towns():
    assert place_names([-16.5, np.nan], [-179.999, 0.0])[0].endswith("Fiji")
    assert place_names([np.nan], [0.0]) == [""]
    assert "km from" in place_names([-48.0], [-120.0])[0]


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_binned_distances_are_distances(seed):
    points = np.random.default_rng(seed).normal(size=(6, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    latitude, longitude = coordinates(points)
    near = unit_vectors(*destination(latitude, longitude, 77.0, np.geomspace(0.1, 12_000, 6)))
    found = bin_distances_km()[np.diagonal(distance_bins(points, near))]
    assert found == pytest.approx(np.geomspace(0.1, 12_000, 6), rel=0.03)


def test_kernels_hold_all_their_mass_and_the_table_agrees_with_their_density():
    scales = np.array(SCALES_KM)
    radius = np.concatenate([[0.0], np.geomspace(1e-8, np.pi, 20_000)])[:, None]
    ring = np.exp(log_kernel(radius * 6371.0088, scales)) * 2 * np.pi * 6371.0088**2 * np.sin(radius)
    assert np.trapezoid(ring, radius, axis=0) == pytest.approx(1, abs=1e-3)
    for column in range(len(SCALES_KM)):
        inside = np.concatenate([[0.0], np.cumsum((ring[1:, column] + ring[:-1, column]) / 2 * np.diff(radius[:, 0]))])
        expected = np.interp(RADII_KM, radius[:, 0] * 6371.0088, inside)
        assert within_table(RADII_KM)[0, column] == pytest.approx(expected, abs=0.03)


def test_company_outweighs_a_lonely_first_rank():
    found = _predict(_candidates(TOKYO, _city(PARIS, 8)))
    assert haversine_km(found["latitude"][0], found["longitude"][0], *PARIS) < 10
    assert _predict(_candidates(TOKYO, _city(PARIS, 8)), method="rank1")["latitude"][0] == TOKYO[0]


def test_an_answer_that_agrees_with_a_candidate_wins():
    scatter = coordinates(np.random.default_rng(3).normal(size=(8, 3)))
    found = _predict(_candidates(scatter, _city(TOKYO, 1)), _answer(*TOKYO))
    assert haversine_km(found["latitude"][0], found["longitude"][0], *TOKYO) < 5
    assert found["status"][0] == "ok"
    alone = _predict(_candidates(scatter, _city(TOKYO, 1)))
    assert found["confidence_25km"][0] > alone["confidence_25km"][0]


def test_a_vague_answer_is_wide_and_a_landmark_narrow():
    radii = {}
    for name in ("Ukraine", "Motherland Monument, Kyiv"):
        nothing = _candidates(_city(PARIS, 1), photo_id="another")
        found = predict(
            candidates=nothing,
            answers=_answer(49.0, 31.5, location=name),
            method="posterior",
            params=None,
            settings=SETTINGS,
            ids=["q"],
        )
        assert found["status"].tolist() == ["no_candidates"]
        radii[name] = found["radius_50_km"][0]
    assert radii["Motherland Monument, Kyiv"] < radii["Ukraine"]


def test_granularity_reads_the_name():
    names = [
        "Unknown",
        "",
        "Center of Ukraine",
        "Tokyo, Japan",
        "Ukraine",
        "Tokyo Tower",
        "東京タワー",
        "Tomb of the Unknown Soldier",
    ]
    found = granularity_of(names, [35.68] * len(names), [139.69] * len(names)).tolist()
    assert found[:2] == ["unknown", "unknown"]
    assert found[2] == "area"
    assert found[4:] == ["country", "landmark", "landmark", "landmark"]


@pytest.mark.parametrize(
    "answers",
    [
        _answer(0.0, 0.0),
        _answer(26.49, 92.33, location="Unknown"),
        _answer(np.nan, np.nan, status="refused"),
        _answer(48.0, 2.0, status="failed"),
    ],
)
def test_what_is_no_answer_changes_nothing_but_the_status(answers):
    candidates = _candidates(_city(PARIS, 5), TOKYO)
    found, without = _predict(candidates, answers), _predict(candidates)
    assert found["status"].tolist() == ["no_answer"]
    pd.testing.assert_frame_equal(found.drop(columns="status"), without.drop(columns="status"))


def test_photos_are_predicted_by_themselves():
    """A photo's answer does not depend on the other photos of its batch, or on their order."""
    candidates, answers, truth = made_benchmark(queries=300)
    whole = _predict(candidates, answers).set_index("id")
    some = truth["id"].sample(20, random_state=1).tolist()
    alone = predict(
        candidates=candidates, answers=answers, method="posterior", params=None, settings=SETTINGS, ids=some
    ).set_index("id")
    assert alone.index.tolist() == some
    numbers = ["latitude", "longitude", "radius_50_km", "radius_90_km", "confidence_25km"]
    assert alone[numbers].to_numpy() == pytest.approx(whole.loc[some, numbers].to_numpy(), rel=1e-4)


@pytest.mark.parametrize("turn", [180.0, -77.0])
def test_the_posterior_knows_no_special_meridian(turn):
    candidates, _, _ = made_benchmark(queries=40)
    empty = density_of(np.array([-80.0]), np.array([0.0]))  # the real one does turn with the Earth
    turned = candidates.assign(longitude=(candidates["longitude"] + turn + 180) % 360 - 180)
    found = [
        posterior(gather_evidence(candidates=table, answers=None), refiner=shipped_refiner(), density=empty)
        for table in (candidates, turned)
    ]
    assert haversine_km(
        found[0].latitude, found[0].longitude + turn, found[1].latitude, found[1].longitude
    ) == pytest.approx(0, abs=0.01)
    assert found[0].radius_90_km == pytest.approx(found[1].radius_90_km, rel=0.15)  # bins of 2 %


def test_radii_and_confidences_are_ordered():
    candidates, answers, _ = made_benchmark(queries=100)
    found = posterior(
        gather_evidence(candidates=candidates, answers=answers), refiner=shipped_refiner(), density=shipped_density()
    )
    assert (found.radius_50_km < found.radius_90_km).all()
    assert (np.diff(found.confidence, axis=1) >= 0).all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_a_photo_without_evidence_gets_a_status_not_a_place():
    candidates = _candidates(_city(PARIS, 5))
    for method in ("posterior", "hdbscan", "dbscan", "rank1"):
        found = predict(
            candidates=candidates, answers=None, method=method, params=None, settings=SETTINGS, ids=["q", "nothing"]
        )
        assert found["status"].tolist() == ["ok", "no_evidence"]
        assert found["latitude"].isna().tolist() == [False, True]
        assert found["place"].tolist()[1] == ""


def test_samples_of_one_answer_do_not_shout_it_down():
    candidates = _candidates(_city(PARIS, 6))
    once = _predict(candidates, _answer(*TOKYO))
    thrice = _predict(candidates, pd.concat([_answer(*TOKYO)] * 3))
    assert thrice["latitude"][0] == pytest.approx(once["latitude"][0], abs=0.01)
    assert thrice["confidence_25km"][0] == pytest.approx(once["confidence_25km"][0], abs=0.02)


def test_the_papers_dbscan_chains_and_takes_the_middle():
    chain = (np.zeros(12), np.arange(12) * 0.4)  # 44 km apart each, 489 km in all
    found = _predict(_candidates(TOKYO, chain), method="dbscan")
    assert 1.9 < found["longitude"][0] < 2.5
    assert _predict(_candidates(TOKYO, PARIS), method="dbscan")["status"][0] == "ok"


@pytest.fixture(scope="module")
def made():
    candidates, answers, truth = made_benchmark()
    return candidates, answers, truth, fit_refiner(candidates=candidates, answers=answers, truth=truth)


def test_a_fit_beats_the_first_rank_and_its_radii_hold_on_other_photographers(made):
    refiner = made[3]
    candidates, answers, truth = made_benchmark(queries=400, photographers=40, seed=9)
    scores = {}
    for method, told in (("rank1", None), ("posterior", None), ("posterior", answers)):
        found = predict(candidates=candidates, answers=told, method=method, params=refiner, settings=SETTINGS)
        scores[method, told is not None] = evaluate(predictions=found, truth=truth, bootstrap_samples=10)
    assert scores["posterior", False]["acc_25km"] > scores["rank1", False]["acc_25km"] + 10
    assert scores["posterior", True]["acc_25km"] > scores["posterior", False]["acc_25km"]
    for answered in (False, True):
        assert 84 < scores["posterior", answered]["coverage_90"] < 97
        assert 40 < scores["posterior", answered]["coverage_50"] < 64


def test_confidences_come_true(made):
    candidates, answers, truth = made_benchmark(queries=400, photographers=40, seed=9)
    found = predict(candidates=candidates, answers=answers, method="posterior", params=made[3], settings=SETTINGS)
    hit = haversine_km(found["latitude"], found["longitude"], truth["latitude"], truth["longitude"]) <= 25
    assert found["confidence_25km"].mean() == pytest.approx(hit.mean(), abs=0.07)
    surest = found["confidence_25km"].rank(pct=True) > 0.5
    assert hit[surest].mean() > hit[~surest].mean()


def test_abstention_keeps_its_risk(made):
    candidates, answers, truth = made_benchmark(queries=400, photographers=40, seed=9)
    found = predict(
        candidates=candidates,
        answers=answers,
        method="posterior",
        params=made[3],
        settings=RefinementSettings(max_risk=0.05),
    )
    kept = found["status"] != "abstained"
    assert 0.1 < kept.mean() < 1
    assert found.loc[~kept, "latitude"].isna().all()
    wrong = haversine_km(found["latitude"], found["longitude"], truth["latitude"], truth["longitude"])[kept] > 25
    assert wrong.mean() <= 0.05


def test_similarity_is_learned_where_there_is_any(made):
    candidates, _, truth, by_rank = made
    place = truth.set_index("id").loc[candidates["id"]].reset_index(drop=True)
    near = haversine_km(candidates["latitude"], candidates["longitude"], place["latitude"], place["longitude"]) < 25
    told = candidates.assign(similarity=np.where(near, 0.9, 0.3) - 0.001 * candidates["rank"])
    refiner = fit_refiner(candidates=told, answers=None, truth=truth)
    assert refiner.alone.score_scales.keys() == {"similarity"}
    scores = [
        evaluate(
            predictions=predict(candidates=told, answers=None, method="posterior", params=params, settings=SETTINGS),
            truth=truth,
            bootstrap_samples=10,
        )["acc_25km"]
        for params in (by_rank, refiner)
    ]
    assert scores[1] > scores[0]


def test_a_refiner_is_saved_whole_and_a_wrong_file_is_refused(made, tmp_path):
    path = tmp_path / "refiner.json"
    save_refiner(path, made[3])
    again = load_refiner(path)
    assert again.fingerprint == made[3].fingerprint
    assert replace(again, data={}).fingerprint != again.fingerprint
    path.write_text('{"format": 2}')
    with pytest.raises(InputError, match="not a refiner"):
        load_refiner(path)
    path.write_text('{"format": 1}')
    with pytest.raises(InputError, match="format of another version"):
        load_refiner(path)


def test_two_photographers_are_enough_whatever_the_seed():
    candidates, _, truth = made_benchmark(queries=60, photographers=2)
    for seed in (31, 32):
        refiner = fit_refiner(candidates=candidates, answers=None, truth=truth, seed=seed)
        assert 0 < refiner.alone.calibration.level_90 <= 1
        assert "2 photographers" in refiner.alone.calibration.doubt


def test_too_little_to_fit_on_is_said():
    candidates, _, truth = made_benchmark(queries=30)
    with pytest.raises(InputError, match="fitting needs at least"):
        fit_refiner(candidates=candidates, answers=None, truth=truth)


def test_radius_and_mass_are_inverse():
    mass = np.linspace(0, 1, len(RADII_KM))[None] ** 0.5
    for level in (0.5, 0.9):
        radius = radius_at(mass, level)
        assert np.interp(np.log(radius), np.log(RADII_KM), mass[0]) == pytest.approx(level)


def test_density_is_high_in_cities_and_low_at_sea():
    paris, sea = shipped_density().log_density([48.85, -48.0], [2.35, -120.0])
    assert (paris > sea + 2).all()
    count, total = shipped_density().spots(unit_vectors([48.86, -48.0], [2.34, -120.0]))
    assert count[0] > 10
    assert count[1] == 0
    assert (total[1] == 0).all()
