"""Runs the training process of a Dagster step and collects its messages (Dagster Pipes)."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from dualgeo_core.base.errors import InputError

STOP_SECONDS = 240  # time limit for training to finish its step and write a checkpoint
KILLED = (
    "training was killed, most likely because memory ran out: lower training.batch_size first, then model.width, "
    "model.label_grid or training.gps_queue. With unchanged settings, the next run resumes from the last checkpoint"
)


def run_training(
    context: dg.AssetExecutionContext, *, command: Sequence[str], extras: Mapping[str, Any]
) -> Sequence[dict[str, Any]]:
    """The messages of the process, one per trained representation.

    Raises InputError if the process reports a user error or was killed, and ConnectionError if it reports that a server
    does not answer. If the step is interrupted, the process writes a checkpoint and stops.
    """
    with dg.open_pipes_session(
        context=context,
        context_injector=dg.PipesTempFileContextInjector(),
        message_reader=dg.PipesTempFileMessageReader(),
        extras=dict(extras),
    ) as session:
        process = subprocess.Popen(command, env={**os.environ, **session.get_bootstrap_env_vars()})
        try:
            code = process.wait()
        except DagsterExecutionInterruptedError:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=STOP_SECONDS)
            raise
    messages = session.get_custom_messages()
    for message in messages:
        if "fault" in message:
            raise InputError(message["fault"])
        if "unreachable" in message:
            raise ConnectionError(message["unreachable"])
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):  # the second is the code of `several_processes`
        raise InputError(KILLED)
    if code:
        raise dg.Failure(f"training failed with exit code {code}; see the stderr output of this step for the cause")
    return messages
