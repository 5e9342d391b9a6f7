"""Run workers that died without a word: how they are noticed, and what their runs held is freed."""

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

CLOCK_SECONDS = 60  # how far the clock may be corrected during a run


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Dagster's own launcher for one machine, whose workers `run_monitoring` can look at.

    Without it a run whose worker and code server died together (power, OOM killer) is in progress for ever.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        # A run that was begun in a terminal says its process an instant after it has begun.
        alive = _worker(self._instance, run.run_id) is None or worker_is_alive(self._instance, run.run_id)
        return CheckRunHealthResult(WorkerStatus.RUNNING if alive else WorkerStatus.FAILED)


def worker_is_alive(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the process that last said that it executes the run is there, and is not a later one of that number."""
    worker = _worker(instance, run_id)
    if worker is None:
        return False
    pid, said_at = worker
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < said_at + CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False


def _worker(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """The number of the process that last said that it executes the run, and when it said so."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    said = [(event.get_dagster_event().engine_event_data.metadata.get("pid"), event.timestamp) for event in events]
    return next(((int(str(pid.value)), said_at) for pid, said_at in reversed(said) if pid is not None), None)


def bury_dead_runs(instance: dg.DagsterInstance) -> None:
    """Marks runs whose worker died as failed and frees their slots in pools, as the daemon does where it runs."""
    begun = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    for run in instance.get_runs(dg.RunsFilter(statuses=begun)):
        if worker_is_alive(instance, run.run_id):
            continue
        now = instance.get_run_by_id(run.run_id)  # it may have ended meanwhile
        if now is not None and now.status == dg.DagsterRunStatus.STARTED:
            instance.report_run_failed(run, "The process of this run died.")
        elif now is not None and now.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "The process of this run died while it was being cancelled.")
    slots = instance.event_log_storage
    for run_id in slots.get_concurrency_run_ids():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            slots.free_concurrency_slots_for_run(run_id)
