"""The decision on a challenger rests on the interval of the difference, not on its point estimate."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dualgeo_core.base.geo import destination
from dualgeo_dagster.mlflow.promotion import Decision, decide_promotion
from dualgeo_dagster.mlflow.registered_model import BEST, CHALLENGER, CHAMPION
from dualgeo_dagster.settings import PromotionSettings

PHOTOGRAPHERS, EACH = 10, 4
TRUTH = pd.DataFrame(
    {
        "id": [f"p{row}" for row in range(PHOTOGRAPHERS * EACH)],
        "latitude": np.linspace(-50, 50, PHOTOGRAPHERS * EACH),
        "longitude": 20.0,
        "author": np.repeat([f"a{number}" for number in range(PHOTOGRAPHERS)], EACH),
    }
)


class Shelf:
    """A registry in memory: version 1 is champion and right everywhere, the others are put in as challengers."""

    def __init__(self) -> None:
        self.predictions = {"1": predictions(wrong=[])}
        self.aliases = {CHAMPION: "1"}

    def put(self, challenger: pd.DataFrame) -> None:
        self.aliases[CHALLENGER] = str(len(self.predictions) + 1)
        self.predictions[self.aliases[CHALLENGER]] = challenger

    def version_of(self, alias: str) -> str | None:
        return self.aliases.get(alias)

    def mark_best(self, version: str) -> None:
        self.aliases[BEST] = version

    def predictions_of(self, version: str, benchmark: str) -> pd.DataFrame:
        return self.predictions[version]

    def rollback_of(self, version: str) -> None:
        """No version was ever rolled back."""

    def promote(self, version: str, *, reason: str) -> None:
        self.aliases[CHAMPION] = version


def predictions(wrong: list[str]) -> pd.DataFrame:
    """On the spot, but 100 km off with all photos of the photographers `wrong`."""
    distance_km = np.where(TRUTH["author"].isin(wrong), 100.0, 0.1)
    latitude, longitude = destination(TRUTH["latitude"], TRUTH["longitude"], 90.0, distance_km)
    return pd.DataFrame({"id": TRUTH["id"], "latitude": latitude, "longitude": longitude})


def decision_on(shelf: Shelf, margin_points: float, truth: pd.DataFrame = TRUTH) -> Decision:
    workspace: Any = SimpleNamespace(
        profile=SimpleNamespace(
            name="made",
            photos=SimpleNamespace(benchmarks={"bench": None}),
            evaluation=SimpleNamespace(bootstrap_samples=400, seed=0),
        ),
        photos=lambda benchmark: SimpleNamespace(frame=truth),
    )
    return decide_promotion(shelf, workspace, PromotionSettings(margin_points=margin_points))  # type: ignore[arg-type]


@pytest.mark.parametrize(("margin_points", "promoted"), [(0, False), (5, False), (40, True)])
def test_a_challenger_is_promoted_only_where_the_whole_interval_is_above_the_margin(
    margin_points: float, promoted: bool
) -> None:
    """A tenth of the photos is lost: the interval of the difference reaches from about -30 to 0."""
    shelf = Shelf()
    shelf.put(predictions(wrong=["a0"]))
    decision = decision_on(shelf, margin_points)
    assert decision.facts["difference"] == pytest.approx(-100 / PHOTOGRAPHERS)
    assert decision.facts["interval_low"] < -5 <= decision.facts["interval_high"]
    assert decision.promoted == promoted
    assert shelf.aliases[CHAMPION] == decision.champion == ("2" if promoted else "1")


def test_small_losses_do_not_add_up() -> None:
    """Each retraining loses one photographer more. The best champion so far stops what the present one would allow."""
    shelf, promoted = Shelf(), []
    for lost in range(1, 5):
        shelf.put(predictions(wrong=[f"a{number}" for number in range(lost)]))
        promoted.append(decision_on(shelf, margin_points=35).promoted)
    assert promoted == [True, False, False, False]
    assert shelf.aliases[CHAMPION] == "2"
    shelf.put(predictions(wrong=[]))
    assert decision_on(shelf, margin_points=35).promoted
    assert shelf.aliases[BEST] == "6", "as good as the best, and newer"


def test_too_few_photographers_keep_the_champion() -> None:
    shelf = Shelf()
    shelf.put(predictions(wrong=[]))
    four = TRUTH[TRUTH["author"].isin(["a0", "a1", "a2", "a3"])]
    decision = decision_on(shelf, 100, truth=four)
    assert not decision.promoted
    assert "too few photographers to tell" in decision.facts["decision"]
