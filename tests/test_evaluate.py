"""Scores: accuracy, intervals by photographer, and differences between two methods."""

import numpy as np
import pandas as pd
import pytest

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import destination
from dualgeo_core.evaluation.scores import accuracy_by_coverage, errors_km, evaluate, paired_difference
from dualgeo_core.photos.photographers import photographer_codes


def _photos(count=60, photographers=6, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"p{number}" for number in range(count)],
            "latitude": random.uniform(-60, 60, count),
            "longitude": random.uniform(-180, 180, count),
            "author": [f"a{number % photographers}" for number in range(count)],
        }
    )


def _off_by(truth, distance_km, **columns):
    latitude, longitude = destination(truth["latitude"], truth["longitude"], 45, distance_km)
    return pd.DataFrame({"id": truth["id"], "latitude": latitude, "longitude": longitude, **columns})


def test_errors_count_within_their_thresholds_and_a_missing_photo_is_wrong():
    truth = _photos(5)
    predictions = _off_by(truth, np.array([0.5, 20, 150, 700, 2000])).iloc[:4]
    scores = evaluate(predictions=predictions, truth=truth, bootstrap_samples=50)
    found = [scores[f"acc_{threshold}km"] for threshold in (1, 25, 200, 750, 2500)]
    assert found == [20, 40, 60, 80, 80]
    assert (scores["n"], scores["n_missing"]) == (5, 1)
    assert scores["median_km"] == pytest.approx(150)


def test_a_row_without_a_position_is_missing():
    truth = _photos(4)
    predictions = _off_by(truth, np.full(4, 0.1))
    predictions.loc[0, ["latitude", "longitude"]] = np.nan
    assert evaluate(predictions=predictions, truth=truth, bootstrap_samples=10)["n_missing"] == 1
    assert np.isinf(errors_km(predictions, truth)[0])


@pytest.mark.parametrize("photographers", [1, 4, 5])
def test_too_few_photographers_have_no_interval(photographers):
    """With one photographer, resampling repeats the same photos: the interval would have no width."""
    truth = _photos(40, photographers=photographers)
    predictions = _off_by(truth, np.where(np.arange(40) == 0, 5000.0, 0.1))
    scores = evaluate(predictions=predictions, truth=truth, bootstrap_samples=50)
    assert scores["acc_25km"] == 97.5
    assert (scores["acc_25km_interval"] is not None) == (photographers == 5)
    if photographers < 5:
        with pytest.raises(InputError, match="too few photographers to tell"):
            paired_difference(challenger=predictions, champion=predictions, truth=truth, bootstrap_samples=50)


def test_coverage_is_the_share_of_radii_that_hold_the_truth():
    truth = _photos(10)
    radius = np.where(np.arange(10) < 7, 6.0, 4.0)
    predictions = _off_by(truth, np.full(10, 5.0), radius_50_km=4.0, radius_90_km=radius)
    scores = evaluate(predictions=predictions, truth=truth, bootstrap_samples=10)
    assert (scores["coverage_50"], scores["coverage_90"]) == (0, 70)
    assert scores["median_radius_90_km"] == 6.0


def test_intervals_resample_photographers_not_photos():
    """Three photographers are always right, three always wrong: resampling photos would call 50 % sure."""
    truth = _photos(200, photographers=6)
    predictions = _off_by(truth, np.where(truth["author"].isin(["a0", "a1", "a2"]), 0.1, 5000.0))
    low, high = evaluate(predictions=predictions, truth=truth, bootstrap_samples=400)["acc_25km_interval"]
    assert low < 20
    assert high > 80
    alone = truth.drop(columns="author")
    low, high = evaluate(predictions=predictions, truth=alone, bootstrap_samples=400)["acc_25km_interval"]
    assert 40 < low < 50 < high < 60


def test_photos_without_an_author_stand_alone():
    truth = pd.DataFrame({"author": ["x", None, "x", None]})
    assert len(set(photographer_codes(truth))) == 3


def test_a_clear_gain_is_told_from_none():
    truth = _photos(120, photographers=12)
    order = np.random.default_rng(5).permutation(120)
    champion = _off_by(truth, np.where(order < 60, 0.5, 100.0))
    better = _off_by(truth, np.where(order < 90, 0.5, 100.0))
    gain = paired_difference(challenger=better, champion=champion, truth=truth)["acc_25km"]
    assert gain["difference"] == 25
    assert gain["low"] > 0
    assert gain["p_value"] < 0.05
    same = paired_difference(challenger=champion, champion=champion, truth=truth)["acc_25km"]
    assert (same["difference"], same["p_value"]) == (0, 1)


def test_a_gain_by_one_photographer_alone_is_no_clear_gain():
    truth = _photos(100, photographers=10)
    champion = _off_by(truth, np.full(100, 100.0))
    better = _off_by(truth, np.where(truth["author"] == "a0", 0.5, 100.0))
    gain = paired_difference(challenger=better, champion=champion, truth=truth)["acc_25km"]
    assert gain["difference"] == 10
    assert gain["low"] == 0
    assert gain["p_value"] > 0.05


def test_the_p_value_is_two_sided():
    """One of five photographers gains: a resample leaves them out with probability 0.8^5, and p is twice that."""
    truth = _photos(50, photographers=5)
    champion = _off_by(truth, np.full(50, 100.0))
    better = _off_by(truth, np.where(truth["author"] == "a0", 0.5, 100.0))
    gain = paired_difference(challenger=better, champion=champion, truth=truth)["acc_25km"]
    loss = paired_difference(challenger=champion, champion=better, truth=truth)["acc_25km"]
    assert gain["p_value"] == pytest.approx(2 * 0.8**5, abs=0.06)
    assert loss["p_value"] == gain["p_value"]


def test_the_surest_come_first_in_the_curve():
    truth = _photos(4)
    predictions = _off_by(truth, np.array([1.0, 1.0, 100.0, 100.0]), confidence_25km=[0.9, 0.8, 0.3, np.nan])
    curve = accuracy_by_coverage(predictions=predictions, truth=truth)
    assert curve["accuracy"].tolist() == pytest.approx([100, 100, 200 / 3, 50])
    assert curve["coverage"].tolist() == [25, 50, 75, 100]


def test_predictions_that_do_not_belong_to_the_truth_are_refused():
    truth = _photos(3)
    with pytest.raises(InputError, match="which is not in the truth"):
        evaluate(predictions=_off_by(_photos(5), np.zeros(5)), truth=truth)
    with pytest.raises(InputError, match="twice"):
        evaluate(predictions=pd.concat([_off_by(truth, np.zeros(3))] * 2), truth=truth)
