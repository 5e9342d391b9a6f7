"""Runs whose process died are distinguished from live ones, and their slots are freed."""

import os
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from dualgeo_dagster.runtime.launcher import bury_dead_runs, worker_is_alive

POOL = "accelerator"


@pytest.fixture
def instance(tmp_path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 1)
        yield instance


@dg.job
def anything() -> None:
    pass


def begin(instance: dg.DagsterInstance, pid: int) -> str:
    """A run that process `pid` reported to execute."""
    run = instance.create_run_for_job(anything, status=dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("Started process for run", run, EngineEventData.in_process(pid))
    return run.run_id


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_dead_run_is_failed_and_its_slot_free(instance: dg.DagsterInstance) -> None:
    dead = begin(instance, pid=dead_pid())
    assert instance.event_log_storage.claim_concurrency_slot(POOL, dead, "models").is_claimed
    bury_dead_runs(instance)
    assert instance.get_run_by_id(dead).status == dg.DagsterRunStatus.FAILURE
    next_run = begin(instance, pid=os.getpid())
    assert instance.event_log_storage.claim_concurrency_slot(POOL, next_run, "models").is_claimed


def test_a_run_that_died_while_it_was_cancelled_is_cancelled(instance: dg.DagsterInstance) -> None:
    dead = begin(instance, pid=dead_pid())
    instance.report_run_canceling(instance.get_run_by_id(dead))
    bury_dead_runs(instance)
    assert instance.get_run_by_id(dead).status == dg.DagsterRunStatus.CANCELED


def test_a_run_that_died_before_it_said_its_process_is_failed(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(anything, status=dg.DagsterRunStatus.STARTED)
    bury_dead_runs(instance)
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def test_a_living_run_keeps_its_slot(instance: dg.DagsterInstance) -> None:
    living = begin(instance, pid=os.getpid())
    assert instance.event_log_storage.claim_concurrency_slot(POOL, living, "models").is_claimed
    bury_dead_runs(instance)
    assert instance.get_run_by_id(living).status == dg.DagsterRunStatus.STARTED
    other = begin(instance, pid=os.getpid())
    assert not instance.event_log_storage.claim_concurrency_slot(POOL, other, "models").is_claimed


def test_a_later_process_of_the_same_number_is_not_the_worker(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(instance, pid=os.getpid())
    assert worker_is_alive(instance, run_id)
    monkeypatch.setattr("psutil.Process.create_time", lambda process: os.times().elapsed + 1e10)
    assert not worker_is_alive(instance, run_id)
