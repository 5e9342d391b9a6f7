"""The promotion decision: paired tests of non-inferiority by photographer on the promotion benchmark."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from dualgeo_core.base.errors import InputError
from dualgeo_core.evaluation.report import HEADERS
from dualgeo_core.evaluation.scores import TOO_FEW, enough_photographers, paired_difference
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_dagster.mlflow.registered_model import BEST, CHALLENGER, CHAMPION
from dualgeo_dagster.mlflow.registry import Registry
from dualgeo_dagster.settings import PromotionSettings


@dataclass(frozen=True)
class Decision:
    """The decision, the resulting champion, and the numbers behind the decision."""

    promoted: bool
    champion: str
    facts: dict[str, Any]


def decide_promotion(registry: Registry, workspace: Workspace, settings: PromotionSettings) -> Decision:
    """Promotes the challenger if it is shown to be at most `settings.margin_points` worse than two other versions.

    These are the champion and the best champion so far, so that many small losses do not add up. Each pair is scored on
    the photos of the current benchmark that both have predicted. The lower bound of the 95 % interval of the difference
    must not be below the margin. The champion stays if the benchmark has too few photographers, if the two have no
    photo in common, or if the champion has no predictions on it. A challenger that a rollback replaced is not promoted
    again.
    """
    challenger, champion = registry.version_of(CHALLENGER), registry.version_of(CHAMPION)
    assert challenger is not None, "the asset challenger sets this alias"
    facts: dict[str, Any] = {"old": champion or "none", "new": challenger}
    if champion is None:
        registry.mark_best(challenger)
        registry.promote(challenger, reason="the first version")
        return Decision(True, challenger, {**facts, "decision": "promoted: the first version"})
    if champion == challenger:
        return Decision(True, champion, {**facts, "decision": "already the champion"})
    benchmark = settings.benchmark or next(iter(workspace.profile.photos.benchmarks))
    facts |= {"benchmark": benchmark, "metric": HEADERS[settings.metric], "margin": settings.margin_points}
    fault = _undone(registry, challenger)
    if fault is None:
        comparison = _Comparison(registry, workspace, settings, benchmark)
        try:
            fault, found = comparison.fault(challenger, champion)
            best = comparison.best(champion)
            facts |= {**found, "best so far": best}
            if fault is None and best != champion:
                fault, from_best = comparison.fault(challenger, best)
                facts |= {f"{name} from the best": value for name, value in from_best.items()}
        except InputError as error:
            fault = str(error)
    if fault is not None:
        command = f"dualgeo promote {challenger} --profile {workspace.profile.name}"
        return Decision(False, champion, {**facts, "decision": f"blocked: {fault}", "to promote it anyway": command})
    interval = f"{facts['interval_low']:+.1f} to {facts['interval_high']:+.1f} points"
    reason = f"at most {settings.margin_points:g} points worse on {benchmark} ({interval})"
    registry.mark_best(best if comparison.is_better(best, challenger) else challenger)
    registry.promote(challenger, reason=reason)
    return Decision(True, challenger, {**facts, "decision": f"promoted: {reason}"})


@dataclass(frozen=True)
class _Comparison:
    """Versions of the registered model on one benchmark."""

    registry: Registry
    workspace: Workspace
    settings: PromotionSettings
    benchmark: str

    def fault(self, challenger: str, other: str) -> tuple[str | None, dict[str, Any]]:
        """Why the challenger may be worse than the other version, and the numbers. Raises InputError as `_pair`."""
        new, old, truth = self._pair(challenger, other)
        facts: dict[str, Any] = {"compared photos": len(truth)}
        if truth.empty:
            return f"versions {challenger} and {other} have no photo in common", facts
        if not enough_photographers(truth):
            return f"{self.benchmark} has {TOO_FEW}", facts
        found = self._difference(new, old, truth)
        facts |= {"difference": found["difference"], "interval_low": found["low"], "interval_high": found["high"]}
        margin = self.settings.margin_points
        if found["low"] >= -margin:
            return None, facts
        interval = f"{found['low']:+.1f} to {found['high']:+.1f} points"
        if found["high"] < 0:
            return f"shown worse than version {other} ({interval})", facts
        return f"it may be over {margin:g} points worse than version {other} ({interval})", facts

    def best(self, champion: str) -> str:
        """The best champion so far; the present one, if the best was not evaluated on this benchmark."""
        best = self.registry.version_of(BEST)
        try:
            return best if best is not None and self.is_better(best, champion) else champion
        except InputError:
            return champion

    def is_better(self, version: str, other: str) -> bool:
        """Whether the version has a better score on the photos that both have predicted."""
        new, old, truth = self._pair(version, other)
        return version != other and not truth.empty and self._difference(new, old, truth)["difference"] > 0

    def _pair(self, version: str, other: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Both predictions and the true places of the photos in common.

        Raises InputError if a version has no predictions on the benchmark.
        """
        new, old = (self.registry.predictions_of(name, self.benchmark) for name in (version, other))
        truth = self.workspace.photos(self.benchmark).frame
        truth = truth[truth["id"].isin(new["id"]) & truth["id"].isin(old["id"])]
        return new[new["id"].isin(truth["id"])], old[old["id"].isin(truth["id"])], truth

    def _difference(self, new: pd.DataFrame, old: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
        evaluation = self.workspace.profile.evaluation
        return paired_difference(
            challenger=new,
            champion=old,
            truth=truth,
            bootstrap_samples=evaluation.bootstrap_samples,
            seed=evaluation.seed,
        )[self.settings.metric]


def _undone(registry: Registry, challenger: str) -> str | None:
    undone = registry.rollback_of(challenger)
    if undone is None:
        return None
    return f"version {challenger} was rolled back by {undone.by} on {undone.when} ({undone.reason})"
