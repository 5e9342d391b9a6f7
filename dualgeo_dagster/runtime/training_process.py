"""Trains all representations of a profile and reports to Dagster (Pipes) and MLflow.

    python -m dualgeo_dagster.runtime.training_process '{"seed": 3}' [--unattended]

`accelerate launch -m` runs it on several processes. With `--unattended`, it discards an unfinished run that had other
settings.
"""

import json
import os
import signal
import sys
import threading
from contextlib import suppress

import psutil
from dagster_pipes import PipesContext, open_dagster_pipes

from dualgeo_core.base.errors import InputError
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import Representation, load_settings
from dualgeo_dagster.mlflow.run import Curve, TrackedRun
from dualgeo_dagster.mlflow.store import without_password
from dualgeo_dagster.retries import comes_from_outside
from dualgeo_dagster.settings import keep_libraries_quiet


def main() -> None:
    """Trains on every process launched by accelerate. The main process reports to Dagster and MLflow."""
    from accelerate import PartialState

    from dualgeo_core.model.interruption import STOPPED, TrainingInterruptedError
    from dualgeo_core.pipeline.stage1 import make_model

    keep_libraries_quiet()
    try:
        workspace = Workspace(load_settings().with_training(json.loads(sys.argv[1])))
        unattended = "--unattended" in sys.argv
        if PartialState().is_main_process:
            with open_dagster_pipes() as pipes:
                threading.Thread(target=_stop_with, args=[pipes.get_extra("step_pid")], daemon=True).start()
                _report_errors(workspace, pipes, unattended)
        else:
            for representation in trained_representations(workspace):
                make_model(workspace, representation, on_metrics=lambda step, metrics: None, give_up_others=unattended)
    except InputError as error:
        print(f"dualgeo: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingInterruptedError as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(STOPPED)


def trained_representations(workspace: Workspace) -> list[Representation]:
    """The representations of the profile that need training."""
    return [name for name in workspace.profile.model.variants if name != "encoder"]


def _stop_with(step_pid: int) -> None:
    """Stops this process at a checkpoint when the process of the Dagster step dies.

    Otherwise it would continue unobserved, and write to the same folder as the run that replaces it.
    """
    with suppress(psutil.NoSuchProcess):
        psutil.Process(step_pid).wait()
    os.kill(os.getpid(), signal.SIGTERM)


def _report_errors(workspace: Workspace, pipes: PipesContext, unattended: bool) -> None:
    """Trains; sends user errors and connection failures to Dagster as messages, so that it can show or retry them."""
    try:
        _train_and_report(workspace, pipes, unattended)
    except InputError as error:
        pipes.report_custom_message({"fault": str(error)})
    except Exception as error:
        if not comes_from_outside(error):
            raise
        pipes.report_custom_message({"unreachable": without_password(str(error))})


def _train_and_report(workspace: Workspace, pipes: PipesContext, unattended: bool) -> None:
    from mlflow import MlflowClient

    from dualgeo_core.base.progress import spoken
    from dualgeo_core.pipeline.artifacts import Artifacts
    from dualgeo_core.pipeline.stage1 import make_model

    run = TrackedRun(MlflowClient(tracking_uri=pipes.get_extra("tracking_uri")), pipes.get_extra("mlflow_run_id"))
    curve = Curve(run)
    for representation in trained_representations(workspace):

        def log(step: int, metrics: dict[str, float], representation: str = representation) -> None:
            curve.add(step, {f"training/{representation}/{key}": value for key, value in metrics.items()})

        trained = make_model(
            workspace,
            representation,
            on_metrics=log,
            give_up_others=unattended,
            progress=spoken(pipes.log.info),
        )
        curve.finish()
        pipes.report_custom_message(
            {
                "representation": representation,
                "validation": trained.validation,
                "fingerprint": Artifacts(workspace).model(representation).require().content,
            }
        )


if __name__ == "__main__":
    main()
