"""Trains all representations of a profile and reports to Dagster (Pipes) and MLflow.

    python -m dualgeo_dagster.runtime.training_process '{"seed": 3}' [--unattended]

`several_processes` runs it on several processes. With `--unattended`, it discards an unfinished run that had other
settings. Exit code 2: a user error; 75: a server does not answer; then one process has sent a message to Dagster. Exit
code 1: any other failure.
"""

import json
import os
import sys
import time

from dagster_pipes import PipesContext, open_dagster_pipes

from dualgeo_core.base.errors import InputError
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import Environment, Representation, load_settings
from dualgeo_dagster.mlflow.store import without_password
from dualgeo_dagster.retries import comes_from_outside
from dualgeo_dagster.runtime.several_processes import OUTAGE, USER_ERROR
from dualgeo_dagster.runtime.side_by_side import Order, models_at_once, train_one, train_side_by_side
from dualgeo_dagster.settings import keep_libraries_quiet

MAIN_PROCESS_SECONDS = 60  # time for the main process to report an error that all processes find


def main() -> None:
    """Trains on every process that the launcher started. The main process reports to Dagster and MLflow."""
    from dualgeo_core.model.interruption import STOPPED, TrainingInterruptedError, stop_with_parent

    stop_with_parent(Environment().training_parent or os.getppid())
    keep_libraries_quiet()
    try:
        if os.environ.get("RANK", "0") == "0":
            with open_dagster_pipes() as pipes:
                code = _main_process(pipes)
        else:
            code = _other_process()
    except TrainingInterruptedError as stopped:
        print(stopped, file=sys.stderr)
        code = STOPPED
    sys.exit(code)


def _main_process(pipes: PipesContext) -> int:
    try:
        _train_and_report(_workspace(), pipes, unattended=_unattended())
    except Exception as error:
        return _report(error, pipes)
    return 0


def _other_process() -> int:
    from dualgeo_core.pipeline.stage1 import make_model

    try:
        workspace = _workspace()
        for representation in trained_representations(workspace):
            make_model(workspace, representation, on_metrics=lambda step, metrics: None, give_up_others=_unattended())
    except InputError as error:
        # Usually the main process finds the same error, reports it and ends, and the launcher then ends this process.
        time.sleep(MAIN_PROCESS_SECONDS)
        return _report(error, open_dagster_pipes())
    return 0


def _workspace() -> Workspace:
    """The workspace of this training. Also connects the processes, on the device of the profile."""
    from accelerate import PartialState

    from dualgeo_core.pipeline.opening import profile_device

    workspace = Workspace(load_settings().with_training(json.loads(sys.argv[1])))
    PartialState(cpu=profile_device(workspace.profile).type == "cpu")
    return workspace


def _unattended() -> bool:
    return "--unattended" in sys.argv


def trained_representations(workspace: Workspace) -> list[Representation]:
    """The representations of the profile that need training."""
    return [name for name in workspace.profile.model.variants if name != "encoder"]


def _report(error: Exception, pipes: PipesContext) -> int:
    """Sends a user error or an outage to Dagster, which shows or retries it. Returns the exit code.

    Raises any other error again.
    """
    if isinstance(error, InputError):
        pipes.report_custom_message({"fault": str(error)})
        return USER_ERROR
    if comes_from_outside(error):
        pipes.report_custom_message({"unreachable": without_password(str(error))})
        return OUTAGE
    raise error


def _train_and_report(workspace: Workspace, pipes: PipesContext, unattended: bool) -> None:
    names, at_once = trained_representations(workspace), models_at_once(workspace)
    order = Order(pipes.get_extra("tracking_uri"), pipes.get_extra("mlflow_run_ids"), unattended)
    if at_once > 1:
        made = train_side_by_side(json.loads(sys.argv[1]), names, order, at_once=at_once, say=pipes.log.info)
    else:
        made = (train_one(workspace, name, order, say=pipes.log.info) for name in names)
    for message in made:
        pipes.report_custom_message(message)


if __name__ == "__main__":
    main()
