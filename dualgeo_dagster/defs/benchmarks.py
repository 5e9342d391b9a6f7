"""How good the predictions are: scores per benchmark, and the comparison of all benchmarks and methods."""

from typing import Any

import dagster as dg

from dualgeo_dagster.defs.photos import benchmark_photos
from dualgeo_dagster.defs.refinement import predictions
from dualgeo_dagster.defs.resources import Tracking
from dualgeo_dagster.reporting import markdown_table, picture, result, results_by_benchmark
from dualgeo_dagster.workspace import BENCHMARKS, ONE_RUN, workspace


@dg.asset(
    group_name="benchmarks",
    kinds={"pandas", "mlflow"},
    code_version="1",
    deps=[benchmark_photos, predictions],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
def scores(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult[None]:
    """Accuracy (%) at 1, 25, 200, 750 and 2500 km, median error (km) and coverage (%), with 95 % intervals."""
    return results_by_benchmark(context, tracking, lambda benchmark: _score(benchmark, tracking))


def _score(benchmark: str, tracking: Tracking) -> dict[str, Any]:
    from dualgeo_core import plots
    from dualgeo_core.report import comparison_table, headline_metrics
    from dualgeo_core.stage2 import main_method, make_scores, read_predictions

    made = make_scores(workspace(), benchmark)
    main = main_method(workspace().profile).name
    headline = headline_metrics(made["scores"][main])
    tracking.log_metrics({f"{benchmark}/{name}": value for name, value in headline.items()})
    for method, score in made["scores"].items():
        slug = method.replace(", ", ".").replace(" ", "_")
        tracking.log_metrics({f"{benchmark}.{slug}/{key}": value for key, value in headline_metrics(score).items()})
    found, truth = read_predictions(workspace(), benchmark), workspace().photos(benchmark).frame
    tracking.log_frame(found[found["method"] == main], f"predictions/{benchmark}.json")
    by_method = {name: rows.drop(columns="method") for name, rows in found.groupby("method", sort=False)}
    errors = plots.error_cdf(by_method, truth)
    world = plots.error_map(by_method[main], truth)
    tracking.log_figure(errors, f"plots/{benchmark}/error_cdf.png")
    tracking.log_figure(world, f"plots/{benchmark}/error_map.png")
    return {
        "fingerprint": made["fingerprint"],
        **headline,
        "comparison": markdown_table(comparison_table({benchmark: made["scores"]}).drop(columns="benchmark")),
        "error_cdf": picture(errors, f"share of {benchmark} within each distance"),
        "error_map": picture(world, f"errors of {benchmark} on the map"),
    }


@dg.asset(group_name="benchmarks", kinds={"dvc", "mlflow"}, code_version="1", deps=[scores])
def report(tracking: Tracking) -> dg.MaterializeResult[None]:
    """All benchmarks and methods side by side, also as the metrics and plots that DVC compares between commits."""
    from dualgeo_core.report import comparison_table, read_scores, write_report

    facts = write_report(workspace())
    table = comparison_table(read_scores(workspace()))
    tracking.log_frame(table, "scores.json")
    for file in sorted(workspace().report.iterdir()):
        tracking.log_file(file, "report")
    return result({**facts, "comparison": markdown_table(table)}, tracking)
