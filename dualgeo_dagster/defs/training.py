"""Training as an external process, so that the same command runs on a cluster; its curve streams into MLflow."""

import os
import sys

import dagster as dg

from dualgeo_core.errors import InputError
from dualgeo_core.files import fingerprint
from dualgeo_dagster.defs.resources import Tracking
from dualgeo_dagster.defs.views import gallery_features, gallery_masks
from dualgeo_dagster.reporting import result
from dualgeo_dagster.workspace import ACCELERATOR, workspace


@dg.asset(
    group_name="training",
    kinds={"torch", "mlflow"},
    code_version="1",
    deps=[gallery_masks, gallery_features],
    pool=ACCELERATOR,
)
def models(
    context: dg.AssetExecutionContext, tracking: Tracking, training_process: dg.PipesSubprocessClient
) -> dg.MaterializeResult:
    """The trained representations, each the best of its epochs by the retrieval of held-out photographers."""
    invocation = training_process.run(
        context=context,
        command=[*_launcher(workspace().profile.training.processes), "-m", "dualgeo_dagster.training_process"],
        extras={"tracking_uri": tracking.tracking_uri, "mlflow_run_id": tracking.run_id, "step_pid": os.getpid()},
    )
    messages = invocation.get_custom_messages()
    for message in messages:
        if "fault" in message:
            raise InputError(message["fault"])
    made = {message["representation"]: message for message in messages}
    facts = {
        f"{name}: recall@1 of held-out photographers within {radius_km} km": made[name]["validation"][
            f"recall_{radius_km}km"
        ]
        for name in made
        for radius_km in (1, 25)
    }
    facts["fingerprint"] = fingerprint({name: message["fingerprint"] for name, message in made.items()})
    facts["folder"] = dg.MetadataValue.path(workspace().settings.artifacts / "models")
    return result(facts, tracking)


def _launcher(processes: int) -> list[str]:
    if processes == 1:
        return [sys.executable]
    return [sys.executable, "-m", "accelerate.commands.launch", "--num-processes", str(processes)]
