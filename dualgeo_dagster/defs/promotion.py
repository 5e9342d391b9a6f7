"""Registration and promotion: every model becomes a version, and is promoted if it is shown not worse."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from dualgeo_core.base.files import fingerprint
from dualgeo_core.pipeline.workspace import GALLERY
from dualgeo_dagster.defs.benchmarks import report
from dualgeo_dagster.defs.refinement import locator
from dualgeo_dagster.defs.training import FRESH
from dualgeo_dagster.mlflow.links import version_page
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.photo_versions import photo_set_hash
from dualgeo_dagster.profile import NAME, orchestration, workspace
from dualgeo_dagster.reporting.results import markdown_table, named, result
from dualgeo_dagster.retries import retried
from dualgeo_dagster.settings import TrackingEnvironment

if TYPE_CHECKING:
    import pandas as pd

    from dualgeo_dagster.mlflow.registry import Registry

SCORES, DATA, DECISION = "scores", "data", "decision"  # tags of a version
SHOWN_VERSIONS = 6
SHOWN_CHARACTERS = 1000  # Dagster's page hides a longer table behind a click
BY_HAND = {
    "promote": dg.Field(
        str,
        default_value="",
        description="Number of a version to make champion, whatever the comparison says; empty: compare.",
    ),
    "reason": dg.Field(str, default_value="by hand", description="Reason of the promotion by hand."),
}


@dg.asset(group_name="promotion", kinds={"mlflow"}, code_version="1", deps=[locator, report])
@retried
def challenger(tracking: Tracking) -> dg.MaterializeResult:
    """The new version of the registered model in MLflow, with its locator folder and its benchmark predictions.

    Registration keeps every trained model, so that you can promote it later or roll back to it. If a version has the
    same locator and the same predictions, that version becomes the challenger and nothing is stored again. Run
    `dualgeo versions` for the list of versions.
    """
    from dualgeo_core.answering.locator_folder import read_locator_folder
    from dualgeo_core.pipeline.artifacts import Artifacts
    from dualgeo_core.pipeline.stage2 import main_predictions
    from dualgeo_dagster.mlflow.registry import Registry

    packed = read_locator_folder(workspace().locator).fingerprint
    benchmarks = workspace().profile.photos.benchmarks
    predicted = {name: Artifacts(workspace()).predictions(name).require().content for name in benchmarks}
    registry = Registry(tracking.tracking_uri, profile=NAME)
    overview, data = _overview(), _data_versions()
    within = zip(overview["Benchmark"], overview["Within 25 km (%)"], strict=True)
    headline = ", ".join(f"{name} {share}" for name, share in within)
    sections = {"Scores": markdown_table(overview).value, "Data": data}
    description = "".join(f"\n\n## {title}\n\n{text}" for title, text in sections.items())
    version = registry.register(
        run_id=tracking.run.id,
        locator=workspace().locator,
        predictions={name: main_predictions(workspace(), name) for name in benchmarks},
        tags={"locator": packed, "predictions": fingerprint(predicted), "profile": NAME},
        description=f"Within 25 km (%): {headline}{description}",
    )
    registry.note(version, SCORES, headline)
    registry.note(version, DATA, data)
    tracking.run.log_tags({"model_version": version})
    page = version_page(TrackingEnvironment().ui, registry.model, version)
    link = dg.MetadataValue.md(f"[{registry.model} version {version}]({page})")
    return result({"fingerprint": packed, "Version": int(version), "Registered model": link}, tracking)


def _overview() -> "pd.DataFrame":
    from dualgeo_core.evaluation.report import benchmark_overview
    from dualgeo_core.pipeline.methods import main_method
    from dualgeo_core.pipeline.report import all_scores

    return benchmark_overview(all_scores(workspace()), main_method(workspace().profile).name)


def _data_versions() -> str:
    """The photo sets of the profile with the first digits of their DVC hashes."""
    names = dict.fromkeys(
        workspace().source(name).photo_set for name in (GALLERY, *workspace().profile.photos.benchmarks)
    )
    return ", ".join(f"{name} {photo_set_hash(name, home=workspace().settings.home)[:8]}" for name in names)


@dg.asset(
    group_name="promotion",
    kinds={"mlflow"},
    code_version="1",
    deps=[challenger],
    freshness_policy=FRESH,
    config_schema=BY_HAND,
    check_specs=[
        dg.AssetCheckSpec(
            "challenger_is_not_worse",
            asset="champion",
            description="The challenger is shown to be no worse than the champion and the best champion so far, up to "
            "a margin (paired bootstrap by photographer).",
        )
    ],
)
@retried
def champion(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The model version in service. The challenger replaces it if a paired test shows that it is not worse.

    The comparison prevents a worse model from going into service, at once or by many small losses: the challenger is
    compared with the champion and with the best champion so far, up to the margin
    `orchestration.promotion.margin_points`. Differences are challenger minus champion. A blocked challenger is a
    warning: the check `challenger_is_not_worse` is amber, and the run succeeds. The table lists the newest versions
    with the DVC version of their gallery and their accuracy within 25 km. To promote one of them by hand, hold Shift,
    click *Materialize*, and name it as `promote`;
    `dualgeo promote` and `dualgeo rollback` do the same.
    """
    from dualgeo_dagster.mlflow.locators import bring_into_service
    from dualgeo_dagster.mlflow.promotion import Decision, decide_promotion
    from dualgeo_dagster.mlflow.registered_model import CHAMPION
    from dualgeo_dagster.mlflow.registry import Registry

    registry, asked = Registry(tracking.tracking_uri, profile=NAME), context.op_execution_context.op_config
    if asked["promote"]:
        before = registry.version_of(CHAMPION)
        if asked["promote"] != before:  # an earlier try of this step may have promoted it
            registry.promote(asked["promote"], reason=asked["reason"])
        facts = {"old": before or "none", "new": asked["promote"], "decision": asked["reason"]}
        decision = Decision(True, asked["promote"], facts)
    else:
        decision = decide_promotion(registry, workspace(), orchestration().promotion)
        if decision.facts["new"] != decision.facts["old"]:  # otherwise nothing was decided
            registry.note(decision.facts["new"], DECISION, decision.facts["decision"])
    bring_into_service(registry, workspace().settings)
    tracking.close_rebuild()
    sentence = f"version {decision.facts['new']}: {decision.facts['decision']}"
    context.log.info(sentence)
    tracking.run.describe("Promotion", f"Decision on {sentence}. Champion: version {decision.champion}.")
    shown = {"champion": decision.champion, "decision": decision.facts["decision"]}
    shown |= {"versions": _versions(registry), **decision.facts}
    made = result({**shown, "fingerprint": fingerprint("champion", decision.champion)}, tracking)
    return dg.MaterializeResult(
        metadata=made.metadata,
        data_version=made.data_version,
        check_results=[
            dg.AssetCheckResult(
                check_name="challenger_is_not_worse",
                passed=decision.promoted,
                severity=dg.AssetCheckSeverity.WARN,
                metadata=named(decision.facts),
            )
        ],
    )


def _versions(registry: "Registry") -> dg.MetadataValue[Any]:
    """A table of the newest versions: aliases, gallery, accuracy within 25 km on each benchmark, and decision.

    It has three columns, because its place on Dagster's page is narrow.
    """
    import pandas as pd

    from dualgeo_dagster.mlflow.registered_model import CHALLENGER, CHAMPION

    aliases = {alias: registry.version_of(alias) for alias in (CHAMPION, CHALLENGER)}
    rows = []
    for version in registry.versions()[:SHOWN_VERSIONS]:
        names = [alias for alias, points_to in aliases.items() if points_to == version]
        gallery = registry.note_of(version, DATA).split(", ")[0].split(" ")[-1]
        row = {
            "Version, gallery": " ".join(filter(None, [version, *names, gallery])),
            "Within 25 km (%)": registry.note_of(version, SCORES),
            "Decision": registry.note_of(version, DECISION),
        }
        rows.append(row)
    table = pd.DataFrame(rows)
    while len(table) > 1 and len(str(markdown_table(table).value)) >= SHOWN_CHARACTERS:
        table = table.iloc[:-1]
    return markdown_table(table)
