"""Runs the whole graph of a profile as one Dagster run, and prints the scores."""

import os
import sys
from typing import TYPE_CHECKING

import dagster as dg
from rich.console import Console
from rich.table import Table

from dualgeo_core.settings import Environment, load_settings
from dualgeo_dagster.mlflow.store import require_answer
from dualgeo_dagster.runtime.code_server import CodeServer
from dualgeo_dagster.runtime.console import user_error
from dualgeo_dagster.runtime.instance import ensure_dagster_home
from dualgeo_dagster.runtime.terminal_run import run_and_follow
from dualgeo_dagster.settings import keep_libraries_quiet, orchestration_of

if TYPE_CHECKING:
    import pandas as pd

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
    from dualgeo_core.evaluation.report import comparison_table
    from dualgeo_core.pipeline.report import all_scores
    from dualgeo_dagster.mlflow.tracking import Tracking
    from dualgeo_dagster.profile import NAME, workspace

    console = Console(width=120 if not sys.stdout.isatty() else None)
    for benchmark, by_method in all_scores(workspace()).items():
        console.print(_table(benchmark, comparison_table({benchmark: by_method})))
    run_id = Tracking().find_run(dagster_run_id)
    console.print(f"Dagster run   {dagster_run_id}\nMLflow run    {run_id}")
    console.print(f"Web pages     [bold]make ui PROFILES={NAME}[/bold]", highlight=False)
    console.print(f"Locate photos [bold].venv/bin/dualgeo locate --profile {NAME} PHOTO[/bold]", highlight=False)


def _table(benchmark: str, frame: "pd.DataFrame") -> Table:
    table = Table(
        title=f"{benchmark}: share of {frame['n'].iloc[0]} photos within each distance (%)", title_justify="left"
    )
    table.add_column("Method", no_wrap=True)
    for column in ("1 km", "25 km", "25 km, 95 % interval", "200 km", "750 km", "2500 km", "Median error (km)"):
        table.add_column(column, justify="right")
    import pandas as pd

    from dualgeo_core.evaluation.scores import TOO_FEW

    for row in frame.to_dict("records"):
        accuracies = {name: f"{row[name]:.1f}" for name in row if str(name).startswith("acc_")}
        interval = f"{accuracies['acc_25km_low']}-{accuracies['acc_25km_high']}"
        if pd.isna(row["acc_25km_low"]):
            interval = TOO_FEW
        far = (accuracies[f"acc_{threshold}km"] for threshold in (200, 750, 2500))
        near = (accuracies["acc_1km"], accuracies["acc_25km"], interval)
        table.add_row(str(row["method"]), *near, *far, f"{row['median_km']:.1f}")
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
