"""The decision on a challenger rests on the interval of the difference, not on its point estimate."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dualgeo_core.base.geo import destination
from dualgeo_dagster.mlflow.promotion import Decision, decide
from dualgeo_dagster.mlflow.registry import CHALLENGER, CHAMPION
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


class ShelfOfTwo:
    """A registry in memory: version 1 is champion and right everywhere, version 2 is the challenger."""

    def __init__(self, challenger: pd.DataFrame) -> None:
        self.predictions = {"1": predictions(wrong=[]), "2": challenger}
        self.aliases = {CHAMPION: "1", CHALLENGER: "2"}

    def version_of(self, alias: str) -> str | None:
        return self.aliases[alias]

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


def decision_on(shelf: ShelfOfTwo) -> Decision:
    workspace: Any = SimpleNamespace(
        profile=SimpleNamespace(
            name="made",
            photos=SimpleNamespace(benchmarks={"bench": None}),
            evaluation=SimpleNamespace(bootstrap_samples=400, seed=0),
        ),
        photos=lambda benchmark: SimpleNamespace(frame=TRUTH),
    )
    return decide(shelf, workspace, PromotionSettings())  # type: ignore[arg-type]


@pytest.mark.parametrize(("photographers_lost", "promoted"), [(1, True), (6, False)])
def test_a_challenger_is_blocked_only_where_the_whole_interval_is_below_zero(
    photographers_lost: int, promoted: bool
) -> None:
    wrong = [f"a{number}" for number in range(photographers_lost)]
    shelf = ShelfOfTwo(challenger=predictions(wrong))
    decision = decision_on(shelf)
    assert decision.facts["difference"] == pytest.approx(-100 * photographers_lost / PHOTOGRAPHERS)
    assert (decision.facts["interval_high"] >= 0) == promoted
    assert decision.promoted == promoted
    assert shelf.aliases[CHAMPION] == decision.champion == ("2" if promoted else "1")
