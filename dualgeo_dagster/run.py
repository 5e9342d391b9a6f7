"""`python -m dualgeo_dagster.run`: the whole graph of a profile as one Dagster run, and its scores as a table."""

import argparse
import os
import sys
import warnings
from typing import TYPE_CHECKING

import dagster as dg
from rich.console import Console
from rich.table import Table

from dualgeo_core.errors import InputError
from dualgeo_core.settings import Environment, keep_libraries_quiet
from dualgeo_dagster.console import user_error
from dualgeo_dagster.instance_home import ensure_dagster_home
from dualgeo_dagster.launcher import bury_dead_runs
from dualgeo_dagster.tracking_store import require_answer

if TYPE_CHECKING:
    import pandas as pd


def main() -> None:
    """Runs the job; a user's mistake is one line and exit code 2, any other failure exit code 1."""
    parser = argparse.ArgumentParser(description="Materializes the whole graph of a profile as one Dagster run.")
    parser.add_argument("--profile", help="a name under profiles/, or a path to a YAML file")
    options = parser.parse_args()
    keep_libraries_quiet()
    ensure_dagster_home(Environment().home)
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    if options.profile:
        os.environ["DUALGEO_PROFILE"] = options.profile  # the definitions are loaded for the profile it names
    try:
        sys.exit(_run())
    except InputError as error:
        print(f"dualgeo: {error}", file=sys.stderr)
        sys.exit(2)


def _run() -> int:
    from dualgeo_dagster.definitions import defs
    from dualgeo_dagster.defs.resources import Tracking
    from dualgeo_dagster.workspace import ALL_BENCHMARKS, JOB

    require_answer(Tracking().tracking_uri)
    with dg.DagsterInstance.get() as instance:
        bury_dead_runs(instance)
        result = defs.resolve_job_def(JOB).execute_in_process(
            instance=instance,
            run_config={"loggers": {"console": {}}},
            tags=ALL_BENCHMARKS,
            raise_on_error=False,
        )
        if result.success:
            _tell(result.run_id)
            return 0
        return _tell_failure(result)


def _tell(dagster_run_id: str) -> None:
    from dualgeo_core.report import comparison_table, read_scores
    from dualgeo_dagster.defs.resources import Tracking
    from dualgeo_dagster.workspace import workspace

    console = Console(width=120 if not sys.stdout.isatty() else None)
    for benchmark, by_method in read_scores(workspace()).items():
        console.print(_table(benchmark, comparison_table({benchmark: by_method})))
    run_id = Tracking().find_run(dagster_run_id)
    console.print(f"Dagster run  {dagster_run_id}\nMLflow run   {run_id}")
    profile = workspace().profile.name
    console.print(f"Both web pages: [bold]make ui PROFILE={profile}[/bold]", highlight=False)
    console.print(f"One photo: [bold].venv/bin/dualgeo locate --profile {profile} PHOTO[/bold]", highlight=False)


def _table(benchmark: str, frame: "pd.DataFrame") -> Table:
    table = Table(title=f"{benchmark} ({frame['n'].iloc[0]} photos)", title_justify="left")
    table.add_column("accuracy in % within", no_wrap=True)
    for column in ("1 km", "25 km", "95 % by photographer", "200 km", "750 km", "2500 km", "median km"):
        table.add_column(column, justify="right")
    for row in frame.to_dict("records"):
        accuracies = {name: f"{row[name]:.1f}" for name in row if str(name).startswith("acc_")}
        interval = f"{accuracies['acc_25km_low']}-{accuracies['acc_25km_high']}"
        far = (accuracies[f"acc_{threshold}km"] for threshold in (200, 750, 2500))
        near = (accuracies["acc_1km"], accuracies["acc_25km"], interval)
        table.add_row(str(row["method"]), *near, *far, f"{row['median_km']:.1f}")
    return table


def _tell_failure(result: dg.ExecuteInProcessResult) -> int:
    faults = [user_error(event) for event in result.filter_events(lambda event: event.is_step_failure)]
    for fault in filter(None, faults):
        print(f"dualgeo: {fault}", file=sys.stderr)
    return 2 if any(faults) else 1


if __name__ == "__main__":
    main()
