"""From a trained model to the one that serves: every model is registered, and only one not shown worse is promoted."""

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
    """A new version of the registered model: all it takes to locate photos, and what it predicted on the benchmarks."""
    from dualgeo_core.answering.locator_folder import read_locator_folder
    from dualgeo_core.pipeline.stage2 import main_predictions
    from dualgeo_dagster.mlflow.registry import Registry

    packed = read_locator_folder(workspace().locator).fingerprint
    version = Registry(tracking.tracking_uri, profile=NAME).register(
        run_id=tracking.run.id,
        locator=workspace().locator,
        predictions={name: main_predictions(workspace(), name) for name in workspace().profile.photos.benchmarks},
        tags={"locator": packed, "profile": NAME},
    )
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
            description="A paired, photographer-clustered test does not show the challenger worse than the champion.",
        )
    ],
)
@retried
def champion(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The version that serves; the challenger takes its place unless a paired test shows it worse."""
    from dualgeo_dagster.mlflow.promotion import decide
    from dualgeo_dagster.mlflow.registry import Registry

    decision = decide(Registry(tracking.tracking_uri, profile=NAME), workspace(), orchestration().promotion)
    tracking.close_rebuild()
    context.log.info(f"version {decision.facts['new']} is {decision.facts['decision']}")
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
