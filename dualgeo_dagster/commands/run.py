"""Runs the whole graph of a profile as one Dagster run, and prints the scores."""

import os
import sys
import warnings
from typing import TYPE_CHECKING

import dagster as dg
from rich.console import Console
from rich.table import Table

from dualgeo_core.settings import Environment
from dualgeo_dagster.mlflow.store import require_answer
from dualgeo_dagster.runtime.console import user_error
from dualgeo_dagster.runtime.instance import ensure_dagster_home
from dualgeo_dagster.runtime.launcher import bury_dead_runs
from dualgeo_dagster.settings import keep_libraries_quiet

if TYPE_CHECKING:
    import pandas as pd


def run_everything(profile: str | None) -> int:
    """Runs the job and prints its scores. Returns the exit code: 0, 2 for a user error, 1 for any other failure.

    Raises InputError if the profile is invalid or MLflow does not answer.
    """
    keep_libraries_quiet()
    ensure_dagster_home(Environment().home)
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    if profile:
        os.environ["DUALGEO_PROFILE"] = profile  # the definitions below are loaded for this profile
    from dualgeo_dagster.definitions import defs
    from dualgeo_dagster.profile import ALL_BENCHMARKS, JOB, workspace

    require_answer(workspace().settings.home)
    with dg.DagsterInstance.get() as instance:
        bury_dead_runs(instance)
        result = defs.resolve_job_def(JOB).execute_in_process(
            instance=instance,
            run_config={"loggers": {"console": {}}},
            tags=ALL_BENCHMARKS,
            raise_on_error=False,
        )
        if not result.success:
            return _print_errors(result)
        _print_scores(result.run_id)
        return 0


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
    for row in frame.to_dict("records"):
        accuracies = {name: f"{row[name]:.1f}" for name in row if str(name).startswith("acc_")}
        interval = f"{accuracies['acc_25km_low']}-{accuracies['acc_25km_high']}"
        far = (accuracies[f"acc_{threshold}km"] for threshold in (200, 750, 2500))
        near = (accuracies["acc_1km"], accuracies["acc_25km"], interval)
        table.add_row(str(row["method"]), *near, *far, f"{row['median_km']:.1f}")
    return table


def _print_errors(result: dg.ExecuteInProcessResult) -> int:
    """Prints the user errors of failed steps and returns the exit code."""
    faults = [user_error(event) for event in result.filter_events(lambda event: event.is_step_failure)]
    for fault in filter(None, faults):
        print(f"dualgeo: {fault}", file=sys.stderr)
    return 2 if any(faults) else 1
