"""Coverage by stratum, the worst stratum, and what the report says about too little data."""

import numpy as np
import pandas as pd
import pytest
from conftest import Home

from dualgeo_core.answering.locator import Locator
from dualgeo_core.base.geo import destination
from dualgeo_core.evaluation.strata import coverage_by_stratum, regions, with_strata, worst_stratum
from dualgeo_core.pipeline.report import render_report
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import load_settings


def photos(count: int = 200, photographers: int = 20) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(predictions, truth): errors of 10 km in radii of 20 km, but at night the radii are too small."""
    random = np.random.default_rng(0)
    truth = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(count)],
            "latitude": random.uniform(-50, 50, count),
            "longitude": random.uniform(-170, 170, count),
            "author": [f"a{row % photographers}" for row in range(count)],
            "hour": np.where(np.arange(count) % 4 == 0, 23.5, 12.0),
        }
    )
    latitude, longitude = destination(truth["latitude"], truth["longitude"], 90, 10.0)
    radius = np.where(truth["hour"] > 20, 5.0, 20.0)
    predictions = pd.DataFrame(
        {"id": truth["id"], "latitude": latitude, "longitude": longitude, "radius_50_km": 1.0, "radius_90_km": radius}
    )
    return predictions, truth


def strata_of(predictions: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    gallery = truth[["latitude", "longitude"]].iloc[:50]
    similarity = pd.Series(np.linspace(0, 1, len(truth)), index=truth["id"])
    found = with_strata(predictions, truth, similarity=similarity, gallery=gallery)
    return coverage_by_stratum(found.assign(benchmark="bench"))


def test_the_stratum_with_wrong_radii_is_named() -> None:
    table = strata_of(*photos())
    night = table[table["stratum"].str.startswith("night")].iloc[0]
    assert (night["photos"], night["coverage_90"], night["coverage_50"]) == (50, 0, 0)
    assert worst_stratum(table).iloc[0]["stratum"] == night["stratum"]
    day = table[table["stratum"].str.startswith("day")].iloc[0]
    assert (day["photos"], day["coverage_90"]) == (150, 100)
    assert table.groupby("kind")["photos"].sum().eq(200).all(), "each kind divides all photos"
    assert (table["kind"] == "similarity").sum() == 10


def test_a_stratum_of_few_photographers_is_not_the_worst() -> None:
    predictions, truth = photos()
    truth["author"] = np.where(truth["hour"] > 20, "owl", truth["author"])
    assert not worst_stratum(strata_of(predictions, truth)).iloc[0]["stratum"].startswith("night")


def test_photos_without_position_are_counted_apart() -> None:
    predictions, truth = photos()
    predictions.loc[:9, ["latitude", "longitude", "radius_90_km"]] = np.nan
    whole = strata_of(predictions, truth).iloc[0]
    assert whole["without position"] == 10
    assert whole["acc_25km"] == 95
    assert whole["coverage_90"] == pytest.approx(100 * 143 / 190)


def test_regions_are_those_of_the_map() -> None:
    places = {"Paris": (48.9, 2.4), "Lima": (-12.0, -77.0), "Tokyo": (35.7, 139.7), "Sydney": (-33.9, 151.2)}
    assert regions(*zip(*places.values(), strict=True)).tolist() == ["Europe", "South America", "Asia", "Oceania"]


def test_the_graphs_report_has_strata_albums_and_doubts(graph_home: Home) -> None:
    graph_home.dualgeo("report", "--profile", "tiny")
    report = graph_home.path / "reports" / "tiny"
    strata = pd.read_csv(report / "strata.csv")
    assert set(strata.loc[strata["kind"] == "benchmark", "stratum"]) == {"by_day", "by_night"}
    scores = pd.read_csv(report / "scores.csv")
    album = scores[scores["method"].str.contains("all photos of an album together")]
    assert album["benchmark"].tolist() == ["by_day", "by_night"]
    workspace = Workspace(load_settings("tiny", home=graph_home.path))
    [doubt] = Locator(workspace.locator).doubts
    assert "photos unlike the gallery are not recognised" in doubt
    page = render_report(workspace)
    assert doubt in page
    assert "Farthest from 90 %: " in page
