"""Evaluation of the predictions: scores per benchmark, and the report on all benchmarks and methods."""

from typing import Any

import dagster as dg

from dualgeo_dagster.defs.refinement import predictions
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import BENCHMARKS, ONE_RUN, workspace
from dualgeo_dagster.reporting.results import Metadata, markdown_table, picture, result, results_by_benchmark
from dualgeo_dagster.retries import retried

REPORT = "report.html"
QUERIES = "queries.html"
PREVIEW_PX = 490  # the width of a cell on Dagster's page


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

    Scores show whether a change of data, settings or model improved the answers on each benchmark. `All benchmarks`
    compares the benchmarks, and `Methods` the methods on the selected one. The pictures and the page of single queries
    come from MLflow's server, which must be running.
    """
    made = results_by_benchmark(context, tracking, lambda benchmark: _score(benchmark, tracking))
    overview = _overview()
    for benchmark in context.partition_keys:
        context.add_asset_metadata({"All benchmarks": overview}, partition_key=benchmark)
    return made


def _score(benchmark: str, tracking: Tracking) -> Metadata:
    from dualgeo_core.evaluation.report import headline_metrics, named_scores
    from dualgeo_core.pipeline.methods import main_method, without_equal_leakage
    from dualgeo_core.pipeline.stage2 import make_scores

    made = make_scores(workspace(), benchmark)
    main = main_method(workspace().profile).name
    run = tracking.benchmark_run(benchmark)
    run.log_metrics(headline_metrics(made["scores"][main]))
    for method, score in made["scores"].items():
        slug = method.replace(", ", ".").replace(" ", "_")
        run.log_metrics({f"{slug}/{key}": value for key, value in headline_metrics(score).items()})
    headline = {"": made["scores"][main]["acc_25km"]}
    bounds = made["scores"][main]["acc_25km_interval"] or ()  # too few photographers to tell
    headline |= dict(zip((" low", " high"), bounds, strict=False))
    tracking.run.log_metrics(
        {f"headline/{benchmark} within 25 km percent{end}": round(value, 1) for end, value in headline.items()}
    )
    return {
        "Benchmark": benchmark,
        "All benchmarks": _overview(),  # its place in the list; `scores` adds the benchmarks that follow
        **named_scores(made["scores"][main]),
        "Methods": _methods_table(without_equal_leakage(made["scores"])),
        **_pictures(benchmark, tracking),
        "fingerprint": made["fingerprint"],
    }


def _methods_table(by_method: dict[str, dict[str, Any]]) -> dg.MetadataValue[Any]:
    import pandas as pd

    from dualgeo_core.evaluation.report import interval_text, percent_text, three_digits

    rows = [
        {
            "Method": method,
            "25 km (%)": percent_text(score["acc_25km"]),
            "95 % interval": interval_text(score["acc_25km_interval"]),
            "Median (km)": "" if score["median_km"] is None else f"{three_digits(score['median_km']):g}",
            "In 90 % radius": percent_text(score["coverage_90"]),
        }
        for method, score in by_method.items()
    ]
    return markdown_table(pd.DataFrame(rows))


def _pictures(benchmark: str, tracking: Tracking) -> Metadata:
    """Logs the pictures and the page of single queries to MLflow; returns the links to them."""
    from dualgeo_core.evaluation import plots
    from dualgeo_core.pipeline.methods import main_method
    from dualgeo_core.pipeline.queries import ShownQueries
    from dualgeo_core.pipeline.stage2 import predictions_by_method

    by_method, truth = predictions_by_method(workspace(), benchmark), workspace().photos(benchmark).frame
    main = by_method[main_method(workspace().profile).name]
    run = tracking.benchmark_run(benchmark)
    run.log_table(main, "predictions.json")
    figures = {
        "Map of errors": ("plots/error_map.png", plots.error_map(main, truth)),
        "Share of photos within each distance": ("plots/error_cdf.png", plots.error_cdf(by_method, truth)),
        "Accuracy of the most confident answers": ("plots/coverage_curve.png", plots.coverage_curve(main, truth)),
    }
    queries = ShownQueries(workspace(), benchmark)
    shown = queries.figures()
    figures |= {name: (f"plots/{name.lower().replace(' ', '_')}.png", figure) for name, figure in shown.items()}
    links: dict[str, Any] = {}
    for title, (path, figure) in figures.items():
        run.log_figure(figure, path)
        run.log_figure(figure, f"previews/{path}", width_px=PREVIEW_PX)
        links[title] = picture(tracking.file_of(run, f"previews/{path}"), f"{benchmark}: {title.lower()}")
    if shown:
        run.log_page(queries.page(), QUERIES)
        page = tracking.page_of(run.id).replace("?", f"/artifacts/{QUERIES}?")
        links["Single queries on the map"] = dg.MetadataValue.md(f"[{QUERIES}]({page})")
    tracking.run.log_figure(figures["Map of errors"][1], f"plots/error_map_{benchmark}.png")
    return links


def _overview() -> dg.MetadataValue[Any]:
    """A table of the main method on all benchmarks whose scores are current."""
    from dualgeo_core.evaluation.report import benchmark_overview
    from dualgeo_core.pipeline.methods import main_method
    from dualgeo_core.pipeline.report import current_scores

    return markdown_table(benchmark_overview(current_scores(workspace()), main_method(workspace().profile).name))


@dg.asset(group_name="benchmarks", kinds={"mlflow"}, code_version="1", deps=[scores])
@retried
def report(tracking: Tracking) -> dg.MaterializeResult:
    """Comparison of all benchmarks and methods in one figure and one HTML page.

    It is what to read after a run. The page is an artifact of the MLflow run. `dualgeo report` writes the same scores
    as files for git, which `dvc metrics diff` and `dvc plots diff` compare between commits.
    """
    from dualgeo_core.base.files import fingerprint
    from dualgeo_core.evaluation import plots
    from dualgeo_core.evaluation.report import benchmark_overview, comparison_table
    from dualgeo_core.pipeline.methods import main_method
    from dualgeo_core.pipeline.report import all_scores, render_report

    found, main = all_scores(workspace()), main_method(workspace().profile).name
    run, figure = tracking.run, "plots/all_benchmarks.png"
    run.log_table(comparison_table(found), "scores.json")
    run.log_page(render_report(workspace()), REPORT)
    overview_figure = plots.benchmarks({name: by_method[main] for name, by_method in found.items()})
    run.log_figure(overview_figure, figure, width_px=PREVIEW_PX)
    overview = markdown_table(benchmark_overview(found, main))
    run.describe("Scores", f"Method: {main}\n\n{overview.value}\n\n![All benchmarks]({tracking.file_of(run, figure)})")
    page = f"[{REPORT}]({tracking.page_of(run.id).replace('?', f'/artifacts/{REPORT}?')})"
    return result(
        {
            "fingerprint": fingerprint(found),
            "Method": main,
            "All benchmarks": overview,
            "Accuracy and coverage": picture(tracking.file_of(run, figure), "All benchmarks"),
            "Page with all methods": dg.MetadataValue.md(page),
        },
        tracking,
    )
