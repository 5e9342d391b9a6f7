"""The report's tables and pictures: percentages have one decimal, and colours that every reader can tell apart."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from dualgeo_core.evaluation import plots
from dualgeo_core.evaluation.report import benchmark_overview, named_scores
from dualgeo_core.evaluation.scores import evaluate

TRUTH = pd.DataFrame(
    {
        "id": [f"p{number}" for number in range(25)],
        "latitude": np.linspace(-50, 50, 25),
        "longitude": np.linspace(-170, 170, 25),
        "author": [f"a{number % 5}" for number in range(25)],
    }
)


def scores_with_right(count: int) -> dict[str, Any]:
    """Scores of predictions of which `count` of 25 are right, and the rest 10 degrees off."""
    off = np.where(np.arange(25) < count, 0.0, 10.0)
    predictions = TRUTH.assign(latitude=TRUTH["latitude"] + off, radius_50_km=1.0, radius_90_km=2000.0)
    return evaluate(predictions=predictions, truth=TRUTH, bootstrap_samples=20)


def test_every_percentage_has_one_decimal() -> None:
    overview = benchmark_overview({"all": {"m": scores_with_right(18)}, "most": {"m": scores_with_right(24)}}, "m")
    assert overview["Within 25 km (%)"].tolist() == ["72.0", "96.0"]
    assert overview["In 90 % radius (%)"].tolist() == ["100.0", "100.0"]
    assert all("." in bound for bound in overview["95 % interval"].iloc[0].split(" to "))
    third = {**scores_with_right(18), "acc_25km": 100 / 3}
    assert named_scores(third)["Within 25 km (%)"] == 33.3


def test_the_error_map_orders_errors_by_lightness_and_says_what_it_shows() -> None:
    """Readers who confuse red and green, and print in grey, still tell a small error from a large one."""
    figure = plots.error_map(TRUTH.assign(latitude=TRUTH["latitude"] + np.linspace(0, 20, 25)), TRUTH)
    [points] = figure.axes[0].collections
    lightness = points.cmap(np.linspace(0, 1, 50))[:, :3] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) < 0).all(), "the farther off, the darker"
    assert "Error (km)" in figure.axes[1].get_ylabel()
    assert "over 200 km off" in figure.axes[0].get_legend().get_texts()[0].get_text()


def test_the_two_radii_differ_in_shape_and_not_only_in_colour() -> None:
    figure: Figure = plots.benchmarks({"day": scores_with_right(18)})
    shown = [line for line in figure.axes[1].lines if line.get_marker() not in ("None", None, "")]
    assert len({line.get_marker() for line in shown}) == len({to_rgb(line.get_color()) for line in shown}) == 2
