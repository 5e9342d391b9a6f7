"""Training in an external process, so that the same command runs on a cluster. Metrics are streamed to MLflow."""

import json
from datetime import timedelta
from typing import Any

import dagster as dg

from dualgeo_core.base.files import fingerprint
from dualgeo_dagster.defs.views import gallery_features, gallery_masks, relit_views
from dualgeo_dagster.mlflow.provenance import is_unattended
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import TRAINING, workspace
from dualgeo_dagster.reporting.results import result
from dualgeo_dagster.retries import retried
from dualgeo_dagster.runtime.several_processes import launch_command
from dualgeo_dagster.runtime.training_client import run_training, run_training_job
from dualgeo_dagster.runtime.training_fields import training_fields

# A missed weekly retraining is a warning one day later, and a failure one day after the second one.
FRESH = dg.FreshnessPolicy.time_window(warn_window=timedelta(days=8), fail_window=timedelta(days=15))
LAST_METRICS = {"loss": "loss", "photos per second": "photos_per_second"}


@dg.asset(
    group_name="training",
    kinds={"torch", "mlflow"},
    code_version="1",
    deps=[gallery_masks, gallery_features, relit_views],
    pool=TRAINING,
    freshness_policy=FRESH,
    config_schema=training_fields(workspace().settings, ("seed", "epochs", "batch_size", "learning_rate")),
)
@retried
def models(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Trained models, one per representation; for each, the epoch with the best retrieval on held-out photographers.

    Training teaches the fusion of both views to retrieve photos of the same place. Change seed, epochs, batch size and
    learning rate of one run in the launchpad, and follow its curves in MLflow. A stopped training resumes at its last
    checkpoint.
    """
    changes = context.op_execution_context.op_config
    training = workspace().settings.with_training(changes).profile.training
    arguments = [json.dumps(changes), *(["--unattended"] if is_unattended(context.run) else [])]
    trained = [name for name in workspace().profile.model.variants if name != "encoder"]
    extras = {
        "tracking_uri": tracking.tracking_uri,
        "mlflow_run_ids": {name: tracking.training_run(name).id for name in trained},
    }
    if workspace().profile.training_nodes is None:
        command = [*launch_command(training.processes), "dualgeo_dagster.runtime.training_process", *arguments]
        messages = run_training(context, command=command, extras=extras)
    else:
        messages = run_training_job(context, settings=workspace().settings, arguments=arguments, extras=extras)
    made = {message["representation"]: message for message in messages}
    facts: dict[str, Any] = {
        f"{name}: recall@1 within {radius_km} km, held-out photographers (%)": round(
            100 * message["validation"][f"recall_{radius_km}km"], 1
        )
        for name, message in made.items()
        for radius_km in (1, 25)
    }
    _log_headline(tracking, made.get(workspace().profile.model.main))
    facts["fingerprint"] = fingerprint({name: message["fingerprint"] for name, message in made.items()})
    facts["folder"] = dg.MetadataValue.path(workspace().settings.artifacts / "models")
    facts |= {"seed": training.seed, "maximum epochs": training.epochs, "learning rate": training.learning_rate}
    return result(facts, tracking)


def _log_headline(tracking: Tracking, main: dict[str, Any] | None) -> None:
    """Logs the training of the main representation to the run itself, for comparisons of runs."""
    if main is None:  # the frozen encoder is not trained
        return
    last = tracking.client.get_run(tracking.training_run(workspace().profile.model.main).id).data.metrics
    tracking.run.log_metrics(
        {"training/validation recall within 25 km percent": round(100 * main["validation"]["recall_25km"], 1)}
        | {f"training/{name}": float(f"{last[key]:.4g}") for name, key in LAST_METRICS.items() if key in last}
    )
