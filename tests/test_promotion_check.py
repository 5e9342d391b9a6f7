"""The asset `champion` as Dagster shows it: a blocked challenger is an amber warning with its reason."""

from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from dualgeo_dagster.defs import promotion
from dualgeo_dagster.mlflow.promotion import Decision

FACTS = {"old": "1", "new": "2", "difference": -12.34, "interval_low": -20.0, "interval_high": -4.0}


class MadeRegistry:
    """A registry with champion 1 and challenger 2."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.notes: dict[tuple[str, str], str] = {("1", "scores"): "day 72.0", ("2", "scores"): "day 48.0"}
        self.notes["2", "data"] = "gallery 0123abcd, day 4567cdef"

    def version_of(self, alias: str) -> str:
        return {"champion": "1", "challenger": "2"}[alias]

    def note(self, version: str, key: str, text: str) -> None:
        self.notes[version, key] = text

    def note_of(self, version: str, key: str) -> str:
        return self.notes.get((version, key), "")

    def versions(self) -> list[str]:
        return ["2", "1"]


def made_champion(monkeypatch: pytest.MonkeyPatch, decision: Decision) -> Any:
    """What the asset returns after this decision."""
    monkeypatch.setattr("dualgeo_dagster.mlflow.registry.Registry", MadeRegistry)
    monkeypatch.setattr("dualgeo_dagster.mlflow.promotion.decide_promotion", lambda *arguments: decision)
    monkeypatch.setattr("dualgeo_dagster.mlflow.locators.bring_into_service", lambda *arguments: None)
    monkeypatch.setattr(promotion, "workspace", lambda: SimpleNamespace(settings=None))
    monkeypatch.setattr(promotion, "orchestration", lambda: SimpleNamespace(promotion=None))
    run = SimpleNamespace(describe=lambda *section: None)
    tracking = SimpleNamespace(tracking_uri="", run=run, close_rebuild=lambda: None, links=lambda run: {})
    context = dg.build_asset_context(asset_config={"promote": "", "reason": "by hand"})
    return promotion.champion(context, tracking=tracking)


@pytest.mark.parametrize("promoted", [False, True])
def test_a_blocked_challenger_is_amber_with_its_reason(monkeypatch: pytest.MonkeyPatch, promoted: bool) -> None:
    sentence = "promoted: no worse" if promoted else "blocked: shown worse than version 1"
    made = made_champion(monkeypatch, Decision(promoted, "2" if promoted else "1", {**FACTS, "decision": sentence}))

    [check] = made.check_results
    assert check.passed == promoted
    assert check.severity == dg.AssetCheckSeverity.WARN, "amber: a blocked challenger stops nothing"
    assert check.metadata["Decision"] == dg.MetadataValue.text(sentence)
    assert check.metadata["Difference (points)"] == dg.MetadataValue.float(-12.3)
    assert made.metadata["Decision"] == sentence
    versions = made.metadata["Versions"].value.splitlines()
    assert versions[2] == f"| 2 challenger 0123abcd | day 48.0 | {sentence} |"
    assert versions[3] == "| 1 champion | day 72.0 |  |"


def test_a_run_that_makes_the_champion_again_leaves_the_reason_of_its_promotion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = Decision(True, "1", {"old": "1", "new": "1", "decision": "already the champion"})
    made = made_champion(monkeypatch, again)
    assert made.metadata["Decision"] == "already the champion"
    assert "already the champion" not in made.metadata["Versions"].value
