"""Trains the models of a profile, on a CPU with several threads each in a process of its own.

A model's weights do not depend on how many are trained at once: every model is trained with the same number of threads.
"""

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, NamedTuple

import psutil

from dualgeo_core.base.progress import spoken
from dualgeo_core.model.interruption import Interruption, TrainingInterruptedError, stop_with_parent
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import Representation, load_settings
from dualgeo_dagster.mlflow.run import Curve, TrackedRun
from dualgeo_dagster.runtime.several_processes import KILLED_CODE
from dualgeo_dagster.settings import keep_libraries_quiet

LOOK_SECONDS = 0.5
BYTES_PER_MODEL = 2_000_000_000  # a process with torch, one model, and the batches of its views

Say = Callable[[str], None]
Message = dict[str, Any]
_lines: Any = None  # in a process that trains: the queue of its progress messages


class Order(NamedTuple):
    """The MLflow run of each representation, and whether an unfinished training with other settings is discarded."""

    tracking_uri: str
    run_ids: dict[str, str]
    unattended: bool


def models_at_once(workspace: Workspace) -> int:
    """The number of models that train at once: what CPU threads and free memory allow; 1 on a GPU or if distributed."""
    from dualgeo_core.pipeline.opening import training_threads, trains_side_by_side

    profile = workspace.profile
    if profile.training.processes > 1 or not trains_side_by_side(profile):
        return 1
    fitting = psutil.virtual_memory().available // BYTES_PER_MODEL
    return int(max(1, min(profile.threads // training_threads(profile), len(profile.model.variants), fitting)))


def train_one(workspace: Workspace, representation: Representation, order: Order, say: Say) -> Message:
    """Trains one model, sends its curve to MLflow, and returns the message for Dagster."""
    from mlflow import MlflowClient

    from dualgeo_core.pipeline.artifacts import Artifacts
    from dualgeo_core.pipeline.stage1 import make_model

    curve = Curve(TrackedRun(MlflowClient(tracking_uri=order.tracking_uri), order.run_ids[representation]))
    trained = make_model(
        workspace,
        representation,
        on_metrics=curve.add,
        give_up_others=order.unattended,
        progress=spoken(say),
    )
    curve.finish()
    return {
        "representation": representation,
        "validation": trained.validation,
        "fingerprint": Artifacts(workspace).model(representation).require().content,
    }


def train_side_by_side(
    overrides: dict[str, Any], names: Sequence[Representation], order: Order, *, at_once: int, say: Say
) -> Iterator[Message]:
    """As `train_one` for each of `names`, `at_once` at a time, the last first: later variants have more to compute.

    Raises the first error of a training, after the others have written a checkpoint. Exits as a killed process does if
    one of them was killed.
    """
    context = multiprocessing.get_context("spawn")
    lines = context.Queue()
    with (
        Interruption() as interruption,
        ProcessPoolExecutor(at_once, mp_context=context, initializer=_begin, initargs=(lines, os.getpid())) as pool,
    ):
        running = {pool.submit(_train_alone, overrides, name, order) for name in reversed(names)}
        try:
            while running:
                finished, running = wait(running, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                _pass_on(lines, say)
                yield from (future.result() for future in finished)
                if interruption.requested:
                    raise TrainingInterruptedError("training was stopped; start it again to resume")
        except BrokenProcessPool:
            os._exit(KILLED_CODE)
        finally:
            _stop(pool, running)


def _begin(lines: Any, parent: int) -> None:
    """Prepares a process that trains. The parent process forwards Ctrl-C, which a terminal also sends here."""
    global _lines
    _lines = lines
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_with_parent(parent)
    keep_libraries_quiet()


def _train_alone(overrides: dict[str, Any], representation: Representation, order: Order) -> Message:
    workspace = Workspace(load_settings().with_training(overrides))
    return train_one(workspace, representation, order, say=_lines.put)


def _pass_on(lines: Any, say: Say) -> None:
    with suppress(queue.Empty):
        while True:
            say(lines.get_nowait())


def _stop(pool: ProcessPoolExecutor, running: set[Future[Message]]) -> None:
    """Cancels what has not begun, and lets the rest write a checkpoint."""
    for future in running:
        future.cancel()
    if running:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        wait(running)
