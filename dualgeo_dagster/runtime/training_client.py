"""Runs the training of a Dagster step, in a process or as a job of a Ray cluster, and collects its messages."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import one_line
from dualgeo_core.settings import Environment, Settings
from dualgeo_dagster.mlflow.store import without_password
from dualgeo_dagster.runtime.several_processes import (
    KILLED,
    KILLED_CODE,
    STOP_SECONDS,
    USER_ERROR,
    child_environment,
)

if TYPE_CHECKING:
    from dagster_ray import PipesRayJobClient
    from ray.job_submission import JobSubmissionClient

MODELS = "dualgeo models"  # in a job's metadata: the folder that it fills


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
        process = subprocess.Popen(command, env={**child_environment(), **session.get_bootstrap_env_vars()})
        try:
            code = process.wait()
        except DagsterExecutionInterruptedError:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=STOP_SECONDS)
            raise
    messages = _without_errors(session.get_custom_messages())
    if code in (-signal.SIGKILL, KILLED_CODE):  # the second is the code of `several_processes`
        raise InputError(KILLED)
    if code:
        raise dg.Failure(f"training failed with exit code {code}; see the stderr output of this step for the cause")
    return messages


def run_training_job(
    context: dg.AssetExecutionContext, *, settings: Settings, arguments: Sequence[str], extras: Mapping[str, Any]
) -> Sequence[dict[str, Any]]:
    """As `run_training`, on nodes of the Ray cluster that RAY_ADDRESS names.

    An earlier job that still trains these models is stopped first, at a checkpoint. Raises ConnectionError if the
    cluster cannot be asked about the job.
    """
    _require_no_password(extras["tracking_uri"])
    client, models = _client(), str(settings.artifacts / "models")
    jobs = _jobs(client, models)
    job = f"train-{settings.profile.name}-{uuid4().hex[:8]}"
    variables = {
        "DUALGEO_HOME": str(settings.home),
        "DUALGEO_PROFILE": Environment().profile,
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
    }
    command = [sys.executable, "-m", "dualgeo_dagster.runtime.training_job", str(Path.cwd()), *arguments]
    try:
        done = client.run(
            context=context,
            submit_job_params={
                "entrypoint": shlex.join(command),
                "runtime_env": {"env_vars": variables},
                "submission_id": job,
                "metadata": {MODELS: models},
            },
            extras=dict(extras),
        )
    except RuntimeError as error:  # of a job that did not succeed, or of the connection to it
        raise _failure(jobs, job, error) from None
    messages = _without_errors(done.get_custom_messages())
    if len(messages) < len(extras["mlflow_run_ids"]):
        raise ConnectionError(f"the output of the Ray job {job} was lost")
    return messages


def _without_errors(messages: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The messages, if none reports an error; otherwise raises it."""
    for message in messages:
        if "fault" in message:
            raise InputError(message["fault"])
        if "unreachable" in message:
            raise ConnectionError(message["unreachable"])
    return messages


def _require_no_password(tracking_uri: str) -> None:
    """Raises InputError if the URI has a password, which Ray's dashboard would show."""
    if without_password(tracking_uri) != tracking_uri:
        raise InputError(
            "MLFLOW_TRACKING_URI has a password, which Ray's dashboard would show: leave it out, and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD here and on the nodes"
        )


def _client() -> "PipesRayJobClient":
    try:
        from dagster_ray import PipesRayJobClient
    except ImportError:
        raise InputError(
            "ray.training_nodes needs the package dagster-ray; run `pip install 'dualgeo[cluster]'`, or remove "
            "ray.training_nodes"
        ) from None
    return PipesRayJobClient()


def _jobs(client: "PipesRayJobClient", models: str) -> "JobSubmissionClient":
    """The connection to the cluster's jobs, none of which fills the folder `models`. Raises InputError without one."""
    from dualgeo_core.pipeline.cluster import require_head

    address = Environment().ray_address
    if address is None:
        raise InputError(
            "ray.training_nodes trains on a Ray cluster, but RAY_ADDRESS is not set: set it to the HOST:PORT of the "
            "cluster's head, or remove ray.training_nodes"
        )
    require_head(address)
    try:
        jobs: JobSubmissionClient = client.client
        _stop_jobs(jobs, models)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the Ray cluster at RAY_ADDRESS {address} accepts no jobs ({one_line(error)}): start its head with the "
            "dashboard (`ray[default]`, in the extra `cluster`)"
        ) from None
    return jobs


def _stop_jobs(jobs: "JobSubmissionClient", models: str) -> None:
    """Stops what fills the folder `models`: its step has died, and two trainings would write the same checkpoint."""
    for job in jobs.list_jobs():
        if job.submission_id and (job.metadata or {}).get(MODELS) == models and not job.status.is_terminal():
            jobs.stop_job(job.submission_id)
            while not jobs.get_job_status(job.submission_id).is_terminal():
                time.sleep(1)


def _failure(jobs: "JobSubmissionClient", name: str, error: RuntimeError) -> Exception:
    """The error of a step whose job did not succeed, or whose job could not be followed: then it is stopped."""
    try:
        job = jobs.get_job_info(name)
        if not job.status.is_terminal():
            jobs.stop_job(name)
    except RuntimeError:
        return ConnectionError(f"the Ray cluster did not take the job {name}, or lost it ({one_line(error)})")
    if not job.status.is_terminal():
        return ConnectionError(f"the Ray job {name} could not be followed any more ({one_line(error)})")
    last = (job.message or job.status).strip().splitlines()[-1]
    if job.driver_exit_code == USER_ERROR:
        return InputError(last)
    if job.driver_exit_code == 1:
        return dg.Failure("training failed with exit code 1; see the output of this step for the cause")
    return InputError(
        f"the Ray job {name} ended without a model ({last}); with unchanged settings, the next run resumes from the "
        "last checkpoint, if there is one"
    )
