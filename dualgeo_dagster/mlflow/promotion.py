"""The promotion decision: a paired bootstrap test by photographer on the promotion benchmark."""

from dataclasses import dataclass
from typing import Any

from dualgeo_core.base.errors import InputError
from dualgeo_core.evaluation.scores import paired_difference
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_dagster.mlflow.registry import CHALLENGER, CHAMPION, Registry
from dualgeo_dagster.settings import PromotionSettings


@dataclass(frozen=True)
class Decision:
    """The decision, the resulting champion, and the numbers behind the decision."""

    promoted: bool
    champion: str
    facts: dict[str, Any]


def decide(registry: Registry, workspace: Workspace, settings: PromotionSettings) -> Decision:
    """Promotes the challenger unless the test shows it worse, that is, the 95 % interval lies below zero.

    Both are scored on the photos of the current benchmark that both have predicted. The champion stays if there are
    none, or if it has no predictions on this benchmark. A challenger that a rollback replaced is not promoted again.
    """
    challenger, champion = registry.version_of(CHALLENGER), registry.version_of(CHAMPION)
    assert challenger is not None, "the asset challenger sets this alias"
    facts: dict[str, Any] = {"old": champion or "none", "new": challenger}
    if champion is None:
        registry.promote(challenger, reason="the first version")
        return Decision(True, challenger, {**facts, "decision": "promoted: the first version"})
    if champion == challenger:
        return Decision(True, champion, {**facts, "decision": "already the champion"})
    command = f"dualgeo promote {challenger} --profile {workspace.profile.name}"
    undone = registry.rollback_of(challenger)
    if undone is not None:
        fault = f"blocked: version {challenger} was rolled back by {undone.by} on {undone.when} ({undone.reason})"
        return Decision(False, champion, {**facts, "decision": f"{fault}. To promote it anyway, run `{command}`"})
    benchmark = settings.benchmark or next(iter(workspace.profile.photos.benchmarks))
    new = registry.predictions_of(challenger, benchmark)
    try:
        old = registry.predictions_of(champion, benchmark)
    except InputError as error:
        fault = f"blocked: {error}. To promote it anyway, run `{command}`"
        return Decision(False, champion, {**facts, "decision": fault})
    truth = workspace.photos(benchmark).frame
    truth = truth[truth["id"].isin(new["id"]) & truth["id"].isin(old["id"])]
    facts |= {"benchmark": benchmark, "metric": settings.metric, "compared photos": len(truth)}
    if truth.empty:
        return Decision(
            False, champion, {**facts, "decision": "blocked: challenger and champion have no photo in common"}
        )
    found = paired_difference(
        challenger=new[new["id"].isin(truth["id"])],
        champion=old[old["id"].isin(truth["id"])],
        truth=truth,
        bootstrap_samples=workspace.profile.evaluation.bootstrap_samples,
        seed=workspace.profile.evaluation.seed,
    )[settings.metric]
    interval = f"{found['low']:+.2f} to {found['high']:+.2f} points"
    facts |= {"difference": found["difference"], "interval_low": found["low"], "interval_high": found["high"]}
    if found["high"] < 0:
        return Decision(False, champion, {**facts, "decision": f"blocked: shown worse ({interval})"})
    registry.promote(challenger, reason=f"not shown worse on {benchmark} ({interval})")
    return Decision(True, challenger, {**facts, "decision": f"promoted: not shown worse ({interval})"})
