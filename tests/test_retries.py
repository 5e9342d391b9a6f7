"""Retries: failed connections are retried, user errors fail at once."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from dualgeo_core.base.errors import InputError
from dualgeo_dagster import retries
from dualgeo_dagster.mlflow.tracking import EXPERIMENT, Tracking


def run_with(failures: list[Exception], monkeypatch: pytest.MonkeyPatch) -> tuple[bool, int]:
    """Whether an asset that first fails with these errors succeeds in the end, and the number of attempts."""
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0)
    left, tries = list(failures), []

    @dg.asset
    @retries.retried
    def fragile(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        tries.append(context.run_id)
        if left:
            raise left.pop(0)
        return dg.MaterializeResult()

    result = dg.materialize([fragile], raise_on_error=False)
    return result.success, len(tries)


def unreachable_server() -> Exception:
    """What the client of a real MLflow server raises when there is none."""
    from mlflow import MlflowClient, MlflowException

    try:
        MlflowClient("http://127.0.0.1:9").get_experiment_by_name("dualgeo-tiny")
    except MlflowException as error:
        return error
    raise AssertionError("something answers on the discard port")


def test_a_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert run_with([ConnectionResetError(), unreachable_server()], monkeypatch) == (True, 3)


def test_a_connection_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = [TimeoutError()] * 20
    assert run_with(failures, monkeypatch) == (False, 1 + retries.RETRIES)


@pytest.mark.parametrize("failure", [InputError("mend it"), KeyError("ours")])
def test_what_must_be_mended_is_told_at_once(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with([failure], monkeypatch) == (False, 1)


def test_an_mlflow_run_whose_monitor_does_not_start_is_ended(
    tmp_path: Path, empty_mlflow: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def away(tracking: Tracking, run_id: str) -> None:
        raise InputError("no monitor")

    @dg.asset
    def thing(tracking: Tracking) -> None:
        assert tracking.run

    store = empty_mlflow(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setattr(Tracking, "_watch_system", away)
    assert not dg.materialize([thing], resources={"tracking": Tracking()}, raise_on_error=False).success
    client = MlflowClient(store)
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert {run.info.status for run in runs} == {"FAILED"}
