"""Detects run workers that died without reporting, and frees the resources of their runs."""

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

CLOCK_SECONDS = 60  # largest clock correction during a run


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Dagster's default launcher, extended by a health check of its workers for `run_monitoring`.

    Without the check, a run stays in progress if its worker and code server died together (power failure, OOM killer).
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        # A run started in a terminal reports its process id shortly after its start.
        alive = _worker(self._instance, run.run_id) is None or worker_is_alive(self._instance, run.run_id)
        return CheckRunHealthResult(WorkerStatus.RUNNING if alive else WorkerStatus.FAILED)


def worker_is_alive(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the process that executes the run is alive. A newer process that reuses its id does not count."""
    worker = _worker(instance, run_id)
    if worker is None:
        return False
    pid, reported_at = worker
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < reported_at + CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False


def _worker(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """The id of the process that last reported executing the run, and the time of its report (Unix seconds)."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    reports = [(event.get_dagster_event().engine_event_data.metadata.get("pid"), event.timestamp) for event in events]
    return next(((int(str(pid.value)), time) for pid, time in reversed(reports) if pid is not None), None)


def bury_dead_runs(instance: dg.DagsterInstance) -> None:
    """Marks runs with a dead worker as failed or canceled, and frees their pool slots.

    Dagster's daemon does the same; this function serves runs in a terminal without a daemon.
    """
    unfinished = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        if worker_is_alive(instance, run.run_id):
            continue
        now = instance.get_run_by_id(run.run_id)  # the run may have ended in the meantime
        if now is not None and now.status == dg.DagsterRunStatus.STARTED:
            instance.report_run_failed(run, "The process of this run died.")
        elif now is not None and now.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "The process of this run died while it was being cancelled.")
    slots = instance.event_log_storage
    for run_id in slots.get_concurrency_run_ids():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            slots.free_concurrency_slots_for_run(run_id)
