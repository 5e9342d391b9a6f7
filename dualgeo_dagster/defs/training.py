"""Training in an external process, so that the same command runs on a cluster. Metrics are streamed to MLflow."""

import json
import os
import sys
from datetime import timedelta

import dagster as dg
from pydantic import Field

from dualgeo_core.base.files import fingerprint
from dualgeo_dagster.defs.views import gallery_features, gallery_masks
from dualgeo_dagster.mlflow.provenance import is_unattended
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import ACCELERATOR, workspace
from dualgeo_dagster.reporting.results import result
from dualgeo_dagster.retries import retried
from dualgeo_dagster.runtime.training_client import run_training

# A missed weekly retraining is a warning one day later, and a failure one day after the second one.
FRESH = dg.FreshnessPolicy.time_window(warn_window=timedelta(days=8), fail_window=timedelta(days=15))
PROFILE = workspace().profile.training


class TrainingChanges(dg.Config):
    """Training settings of this run; defaults are the profile's. A finished model with the same settings is reused."""

    seed: int = Field(
        PROFILE.seed, description="Random seed for initial weights and data order; a new seed trains a new model."
    )
    epochs: int = Field(PROFILE.epochs, description="Maximum number of epochs, 1 or more.")
    batch_size: int = Field(
        PROFILE.batch_size, description="Photos per step over all processes; a smaller batch needs less memory."
    )
    learning_rate: float = Field(PROFILE.learning_rate, description="Peak learning rate (AdamW).")


@dg.asset(
    group_name="training",
    kinds={"torch", "mlflow"},
    code_version="1",
    deps=[gallery_masks, gallery_features],
    pool=ACCELERATOR,
    freshness_policy=FRESH,
)
@retried
def models(
    context: dg.AssetExecutionContext,
    config: TrainingChanges,
    tracking: Tracking,
) -> dg.MaterializeResult:
    """Trained models, one per representation; for each, the epoch with the best retrieval on held-out photographers.

    Training teaches the fusion of both views to retrieve photos of the same place. Change seed, epochs, batch size and
    learning rate of one run in the launchpad, and follow its curves in MLflow. A stopped training resumes at its last
    checkpoint.
    """
    changes = config.model_dump()
    training = workspace().settings.with_training(changes).profile.training
    command = [*_launcher(training.processes), "-m", "dualgeo_dagster.runtime.training_process", json.dumps(changes)]
    if is_unattended(context.run):
        command.append("--unattended")
    extras = {"tracking_uri": tracking.tracking_uri, "mlflow_run_id": tracking.run.id, "step_pid": os.getpid()}
    messages = run_training(context, command=command, extras=extras)
    made = {message["representation"]: message for message in messages}
    facts = {
        f"{name}: recall@1 within {radius_km} km, held-out photographers": made[name]["validation"][
            f"recall_{radius_km}km"
        ]
        for name in made
        for radius_km in (1, 25)
    }
    facts["fingerprint"] = fingerprint({name: message["fingerprint"] for name, message in made.items()})
    facts["folder"] = dg.MetadataValue.path(workspace().settings.artifacts / "models")
    facts |= {"seed": training.seed, "maximum epochs": training.epochs, "learning rate": training.learning_rate}
    return result(facts, tracking)


def _launcher(processes: int) -> list[str]:
    if processes == 1:
        return [sys.executable]
    return [sys.executable, "-m", "accelerate.commands.launch", "--num-processes", str(processes)]
