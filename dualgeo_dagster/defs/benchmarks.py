"""Evaluation of the predictions: scores per benchmark, and the report on all benchmarks and methods."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from dualgeo_dagster.defs.refinement import predictions
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import BENCHMARKS, ONE_RUN, workspace
from dualgeo_dagster.reporting.results import markdown_table, picture, result, results_by_benchmark
from dualgeo_dagster.retries import retried

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dg.asset(
    group_name="benchmarks",
    kinds={"pandas", "mlflow"},
    code_version="1",
    deps=[predictions],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def scores(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Accuracy (%) within 1, 25, 200, 750 and 2500 km, median error (km) and coverage (%), with 95 % intervals.

    Scores show whether a change of data, settings or model improved the answers on each benchmark. Compare the methods
    in the metadata table `comparison`, and open the MLflow run of the benchmark for maps of single queries.
    """
    return results_by_benchmark(context, tracking, lambda benchmark: _score(benchmark, tracking))


def _score(benchmark: str, tracking: Tracking) -> dict[str, Any]:
    from dualgeo_core.evaluation import plots
    from dualgeo_core.evaluation.report import comparison_table, for_people, headline_metrics
    from dualgeo_core.pipeline.methods import main_method
    from dualgeo_core.pipeline.stage2 import make_scores, predictions_by_method

    made = make_scores(workspace(), benchmark)
    main = main_method(workspace().profile).name
    headline = headline_metrics(made["scores"][main])
    run = tracking.benchmark_run(benchmark)
    run.log_metrics(headline)
    tracking.run.log_metrics({f"{benchmark}/{name}": value for name, value in headline.items()})
    for method, score in made["scores"].items():
        slug = method.replace(", ", ".").replace(" ", "_")
        run.log_metrics({f"{slug}/{key}": value for key, value in headline_metrics(score).items()})
    by_method, truth = predictions_by_method(workspace(), benchmark), workspace().photos(benchmark).frame
    run.log_table(by_method[main], "predictions.json")
    errors = plots.error_cdf(by_method, truth)
    world = plots.error_map(by_method[main], truth)
    surest_first = plots.coverage_curve(by_method[main], truth)
    run.log_figure(errors, "plots/error_cdf.png")
    run.log_figure(world, "plots/error_map.png")
    run.log_figure(surest_first, "plots/coverage_curve.png")
    for name, figure in _single_queries(benchmark, by_method[main]).items():
        run.log_figure(figure, f"plots/queries/{name}.png")
    return {
        "fingerprint": made["fingerprint"],
        **headline,
        "comparison": markdown_table(
            for_people(comparison_table({benchmark: made["scores"]}).drop(columns="benchmark"))
        ),
        "error_cdf": picture(errors, f"{benchmark}: share of photos within each distance (%)"),
        "error_map": picture(world, f"{benchmark}: map of errors (km)"),
    }


def _single_queries(benchmark: str, predictions: "pd.DataFrame") -> "dict[str, Figure]":
    """Maps of three queries: the most, a medium and the least confident prediction."""
    from dualgeo_core.evaluation import plots
    from dualgeo_core.pipeline.stage2 import main_candidates, read_clusters

    candidates = main_candidates(workspace(), benchmark)
    candidates = candidates[candidates["kind"] == "similar"]
    clusters = read_clusters(workspace(), benchmark)
    by_sureness = predictions.sort_values("confidence_25km", ascending=False)
    chosen = {"surest": 0, "middling": len(by_sureness) // 2, "least_sure": len(by_sureness) - 1}
    return {
        name: plots.query_map(
            candidates[candidates["id"] == by_sureness["id"].iloc[row]],
            clusters[clusters["id"] == by_sureness["id"].iloc[row]],
            by_sureness.iloc[row],
        )
        for name, row in chosen.items()
    }


@dg.asset(group_name="benchmarks", kinds={"dvc", "mlflow"}, code_version="1", deps=[scores])
@retried
def report(tracking: Tracking) -> dg.MaterializeResult:
    """Comparison of all benchmarks and methods in one table and one HTML page.

    It makes evaluations comparable between commits. Run `dvc metrics diff` and `dvc plots diff`, then commit the files
    in `reports/<profile>/`. The page `report.html` is an artifact of the MLflow run.
    """
    from dualgeo_core.evaluation.report import comparison_table, for_people
    from dualgeo_core.pipeline.report import all_scores, render_report, write_report

    facts = write_report(workspace())
    table = comparison_table(all_scores(workspace()))
    tracking.run.log_table(table, "scores.json")
    tracking.run.log_page(render_report(workspace()), "report.html")
    for file in sorted(workspace().report.iterdir()):
        tracking.run.log_file(file, "report")
    return result({**facts, "comparison": markdown_table(for_people(table))}, tracking)
