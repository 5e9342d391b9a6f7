"""Runs the whole graph of a profile as one Dagster run, and prints the scores."""

import os
import sys
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from dualgeo_core.settings import Environment, load_settings
from dualgeo_dagster.mlflow.store import require_answer
from dualgeo_dagster.runtime.code_server import CodeServer
from dualgeo_dagster.runtime.console import user_error
from dualgeo_dagster.runtime.instance import ensure_dagster_home
from dualgeo_dagster.runtime.terminal_run import run_and_follow
from dualgeo_dagster.settings import TrackingEnvironment, keep_libraries_quiet, orchestration_of

WIDTH = 140  # characters of a table in a pipe or a file
INTERRUPTED = 130  # the shell's code for a command that Ctrl-C ended


def run_everything(profile: str | None) -> int:
    """Runs the job and prints its scores. Returns the exit code: 0, 2 for a user error, 1 for any other failure.

    Raises InputError if the profile is invalid or MLflow does not answer.
    """
    keep_libraries_quiet()
    settings = load_settings(profile)
    orchestration_of(settings.profile)
    ensure_dagster_home(settings.home)
    os.environ["DUALGEO_PROFILE"] = profile or Environment().profile  # the imports below are about this profile
    from dualgeo_dagster.profile import ALL_BENCHMARKS, JOB, NAME

    with dg.DagsterInstance.get() as instance:
        server = CodeServer(os.environ["DUALGEO_PROFILE"], name=NAME, instance=instance)
        try:
            require_answer(settings.home)  # while the server starts
            run = run_and_follow(server, instance, job=JOB, tags=ALL_BENCHMARKS)
        finally:
            server.close()
        if run.is_success:
            _print_scores(run.run_id)
            return 0
        return _print_errors(instance, run)


def _print_scores(dagster_run_id: str) -> None:
    from dualgeo_core.pipeline.report import all_scores
    from dualgeo_dagster.mlflow.tracking import Tracking
    from dualgeo_dagster.profile import NAME, workspace

    console = Console(width=WIDTH if not sys.stdout.isatty() else None)
    for benchmark, by_method in all_scores(workspace()).items():
        console.print(_table(benchmark, by_method))
    tracking = Tracking()
    mlflow_run = tracking.find_run(dagster_run_id)
    pages = {
        "Dagster run": f"{TrackingEnvironment().dagster_ui}/runs/{dagster_run_id}",
        "MLflow run": tracking.page_of(mlflow_run) if mlflow_run else "none",
        "Show both": f"make ui PROFILES={NAME}",
        "Locate photos": f".venv/bin/dualgeo locate --profile {NAME} PHOTO",
    }
    for name, page in pages.items():
        console.print(f"{name:13} {page}", highlight=False, soft_wrap=True)


def _table(benchmark: str, by_method: dict[str, dict[str, Any]]) -> Table:
    photos = next(iter(by_method.values()))["n"]
    title = f"{benchmark}: share of {photos} photos within each distance and each radius (%)"
    table = Table(title=title, title_justify="left")
    table.add_column("Method", no_wrap=True)
    distances = ("1 km", "25 km", "95 % interval", "200 km", "750 km", "2500 km", "Median (km)")
    for column in (*distances, "50 % radius", "90 % radius"):
        table.add_column(column, justify="right", no_wrap=column == "95 % interval")
    from dualgeo_core.evaluation.report import SHARES, interval_text, percent_text

    for method, score in by_method.items():
        near_1, near_25, *far, held_50, held_90 = (percent_text(score[name]) for name in SHARES)
        median = "" if score["median_km"] is None else f"{score['median_km']:.1f}"
        interval = interval_text(score["acc_25km_interval"])
        table.add_row(method, near_1, near_25, interval, *far, median, held_50, held_90)
    return table


def _print_errors(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    """Prints the user errors of failed steps and returns the exit code."""
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    faults = [user_error(entry.get_dagster_event()) for entry in failures]
    for fault in filter(None, faults):
        print(f"dualgeo: {fault}", file=sys.stderr)
    if run.status == dg.DagsterRunStatus.CANCELED:
        return INTERRUPTED
    return 2 if any(faults) else 1
