"""Each suite passes correct data and fails on each fault that it is meant to detect."""

import numpy as np
import pandas as pd
import pytest

from dualgeo_dagster.reporting.expectations import check_embeddings, check_masks, check_photos, check_predictions


def photos(**changes: list) -> pd.DataFrame:
    good = {"id": ["a", "b"], "latitude": [48.8, -33.9], "longitude": [2.3, 151.2], "author": ["x", None]}
    return pd.DataFrame({**good, **changes})


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, True),
        ({"id": ["a", "a"]}, False),
        ({"id": ["a", None]}, False),
        ({"latitude": [91.0, 0.5]}, False),
        ({"longitude": [np.nan, 0.5]}, False),
        ({"latitude": [0.0, 1.0], "longitude": [0.0, 1.0]}, False),
    ],
)
def test_photos(changes: dict, passes: bool) -> None:
    assert check_photos(photos(**changes)).passed == passes


def test_photos_must_be_there() -> None:
    assert not check_photos(photos().iloc[:0]).passed


@pytest.mark.parametrize(
    ("largest", "distinct", "count", "passes"),
    [([3, 1], [4, 2], 2, True), ([8, 1], [4, 2], 2, False), ([3, 1], [1, 1], 2, False), ([3, 1], [4, 2], 3, False)],
)
def test_masks(largest: list, distinct: list, count: int, passes: bool) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "largest_class": largest, "distinct_classes": distinct})
    assert check_masks(frame, classes=8, photos=count).passed == passes


@pytest.mark.parametrize(("uniform", "passes"), [(1, True), (2, False)])
def test_at_most_one_mask_in_twenty_may_have_a_single_class(uniform: int, passes: bool) -> None:
    distinct = [1] * uniform + [3] * (20 - uniform)
    frame = pd.DataFrame({"id": [f"p{row}" for row in range(20)], "largest_class": 2, "distinct_classes": distinct})
    assert check_masks(frame, classes=8, photos=20).passed == passes


@pytest.mark.parametrize(
    ("norm", "cosine", "passes"),
    [
        ([1.0, 1.0], [0.3, 0.4], True),
        ([1.0, 0.5], [0.3, 0.4], False),
        ([1.0, np.nan], [0.3, 0.4], False),
        ([1.0, 1.0], [1.0, 1.0], False),
    ],
)
def test_embeddings(norm: list, cosine: list, passes: bool) -> None:
    frame = pd.DataFrame({"representation": "encoder", "norm": norm, "cosine_to_mean": cosine})
    assert check_embeddings(frame, photos=2, representations=1).passed == passes
    assert not check_embeddings(frame, photos=2, representations=2).passed


def predictions(**changes: list) -> pd.DataFrame:
    good = {
        "id": ["a", "b"],
        "status": ["ok", "no_evidence"],
        "latitude": [48.8, None],
        "longitude": [2.3, None],
        "radius_50_km": [5.0, None],
        "radius_90_km": [50.0, None],
        "confidence_25km": [0.4, None],
    }
    return pd.DataFrame({**good, **changes})


@pytest.mark.parametrize(
    ("changes", "queries", "passes"),
    [
        ({}, 2, True),
        ({}, 3, False),
        ({"id": ["a", "a"]}, 2, False),
        ({"longitude": [200.0, None]}, 2, False),
        ({"radius_90_km": [1.0, None]}, 2, False),
        ({"confidence_25km": [1.5, None]}, 2, False),
        ({"status": ["ok", "ok"]}, 2, False),
        ({"status": ["ok", "abstained"]}, 2, True),
        ({"status": ["no_answer", "no_evidence"]}, 2, True),
        ({"status": ["ok", "gibberish"]}, 2, False),
        ({"status": ["ok", None]}, 2, False),
        ({"longitude": [None, None]}, 2, False),
        ({"latitude": [None, None]}, 2, False),
        ({"status": ["no_answer", "no_evidence"], "longitude": [None, None]}, 2, False),
        ({"latitude": [48.8, 0.5]}, 2, False),
        ({"latitude": [48.8, 0.5], "longitude": [2.3, 0.5]}, 2, False),
    ],
)
def test_predictions(changes: dict, queries: int, passes: bool) -> None:
    verdict = check_predictions(predictions(**changes), queries=queries)
    assert verdict.passed == passes, verdict.findings
