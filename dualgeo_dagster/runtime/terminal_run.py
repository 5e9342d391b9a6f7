"""A run that is launched through the workspace, as Dagster's web page does, and followed in a terminal."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from dualgeo_dagster.runtime.code_server import CodeServer
from dualgeo_dagster.runtime.display import display
from dualgeo_dagster.runtime.launcher import bury_dead_runs

if TYPE_CHECKING:
    from dagster._core.workspace.context import WorkspaceRequestContext

LOOK_S = 0.3
IN_PROGRESS = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def run_and_follow(
    server: CodeServer, instance: dg.DagsterInstance, *, job: str, tags: Mapping[str, str]
) -> dg.DagsterRun:
    """The finished run of a job. Shows its progress while it runs.

    Ctrl-C and SIGTERM cancel the run and wait until it has stopped, so that training writes a checkpoint. A second one
    kills it.
    """
    with server.workspace() as workspace:
        _wait_for_other_runs(instance)
        run = _create(workspace, server.name, instance, job=job, tags=tags)
        instance.launch_run(run.run_id, workspace)
        assert run.execution_plan_snapshot_id is not None, "given when the run was created"
        steps = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute
        with _cancelled_by_signals(server, instance, run.run_id), display(steps=len(steps)) as shown:
            for entry in _events(server, instance, run.run_id):
                shown.show(entry)
    finished = instance.get_run_by_id(run.run_id)
    assert finished is not None
    return finished


def _wait_for_other_runs(instance: dg.DagsterInstance) -> None:
    """Waits until no run is in progress, because runs of a profile write to the same folder."""
    told = False
    while True:
        bury_dead_runs(instance)
        running = instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS), limit=1)
        if not running:
            return
        if not told:
            print(f"Waits for the run {running[0].run_id} of {running[0].job_name} to finish.", flush=True)
            told = True
        time.sleep(LOOK_S)


def _create(
    workspace: "WorkspaceRequestContext",
    location: str,
    instance: dg.DagsterInstance,
    *,
    job: str,
    tags: Mapping[str, str],
) -> dg.DagsterRun:
    """A new run of a job, with the origin by which Dagster finds its code location again."""
    from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
    from dagster._core.definitions.selector import JobSubsetSelector

    code = workspace.get_code_location(location)
    repository = code.get_repository(SINGLETON_REPOSITORY_NAME)
    selector = JobSubsetSelector(
        location_name=location, repository_name=repository.name, job_name=job, op_selection=None
    )
    remote = code.get_job(selector)
    plan = code.get_execution_plan(
        remote, run_config={}, step_keys_to_execute=None, known_state=None, instance=instance
    ).execution_plan_snapshot
    return instance.create_run(
        job_name=job,
        run_id=None,
        run_config={},
        resolved_op_selection=remote.resolved_op_selection,
        step_keys_to_execute=plan.step_keys_to_execute,
        op_selection=None,
        status=None,
        root_run_id=None,
        parent_run_id=None,
        tags={**remote.tags, **tags},
        job_snapshot=remote.job_snapshot,
        execution_plan_snapshot=plan,
        parent_job_snapshot=remote.parent_job_snapshot,
        remote_job_origin=remote.get_remote_origin(),
        job_code_origin=remote.get_python_origin(),
        asset_selection=None,
        asset_check_selection=None,
        asset_graph=repository.asset_graph,
    )


def _events(server: CodeServer, instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.EventLogEntry]:
    """The entries of the run's event log, as they come, until the run has finished."""
    cursor, ended = None, False
    while True:
        connection = instance.get_records_for_run(run_id, cursor=cursor)
        yield from (record.event_log_entry for record in connection.records)
        cursor = connection.cursor
        if ended and not connection.has_more:
            return
        if not server.is_alive():
            _report_dead(instance, run_id)
        run = instance.get_run_by_id(run_id)
        ended = run is None or run.is_finished
        time.sleep(0 if ended else LOOK_S)


def _report_dead(instance: dg.DagsterInstance, run_id: str) -> None:
    """Ends a run whose processes died, and frees its pool slots."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, "The processes of this run were killed.")
    elif run is not None and not run.is_finished:
        instance.report_run_failed(run, "The processes of this run died.")
    bury_dead_runs(instance)


@contextmanager
def _cancelled_by_signals(server: CodeServer, instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    asked = False

    def cancel(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            server.kill()
        else:
            asked = True
            instance.run_launcher.terminate(run_id)

    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
