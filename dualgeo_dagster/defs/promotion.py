"""Registration and promotion: every model becomes a version, and is promoted if it is shown not worse."""

import dagster as dg

from dualgeo_core.base.files import fingerprint
from dualgeo_dagster.defs.benchmarks import report
from dualgeo_dagster.defs.refinement import locator
from dualgeo_dagster.defs.training import FRESH
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import NAME, orchestration, workspace
from dualgeo_dagster.reporting.results import result
from dualgeo_dagster.retries import retried


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
    version = Registry(tracking.tracking_uri, profile=NAME).register(
        run_id=tracking.run.id,
        locator=workspace().locator,
        predictions={name: main_predictions(workspace(), name) for name in benchmarks},
        tags={"locator": packed, "predictions": fingerprint(predicted), "profile": NAME},
    )
    tracking.run.log_tags({"model_version": version})
    return result({"version": int(version), "fingerprint": packed}, tracking)


@dg.asset(
    group_name="promotion",
    kinds={"mlflow"},
    code_version="1",
    deps=[challenger],
    freshness_policy=FRESH,
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
    `orchestration.promotion.margin_points`. The metadata contain the difference, its 95 % interval and the decision;
    `dualgeo promote` and `dualgeo rollback` override it.
    """
    from dualgeo_dagster.mlflow.promotion import decide
    from dualgeo_dagster.mlflow.registry import Registry

    decision = decide(Registry(tracking.tracking_uri, profile=NAME), workspace(), orchestration().promotion)
    tracking.close_rebuild()
    context.log.info(f"version {decision.facts['new']}: {decision.facts['decision']}")
    made = result({**decision.facts, "fingerprint": fingerprint("champion", decision.champion)}, tracking)
    return dg.MaterializeResult(
        metadata=made.metadata,
        data_version=made.data_version,
        check_results=[
            dg.AssetCheckResult(
                check_name="challenger_is_not_worse",
                passed=decision.promoted,
                severity=dg.AssetCheckSeverity.WARN,
                metadata=decision.facts,
            )
        ],
    )
