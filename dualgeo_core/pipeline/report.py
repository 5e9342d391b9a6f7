"""The last evaluation of a workspace: its scores, the report files for git, and the report page."""

from functools import partial
from pathlib import Path

import pandas as pd

from dualgeo_core.base.files import atomic_file, write_json
from dualgeo_core.evaluation.report import Scores, comparison_table, error_curve, headline_metrics
from dualgeo_core.evaluation.report_page import BenchmarkResult, report_page
from dualgeo_core.evaluation.strata import coverage_by_stratum, with_strata
from dualgeo_core.pipeline.artifacts import Artifacts
from dualgeo_core.pipeline.methods import main_method, without_equal_leakage
from dualgeo_core.pipeline.opening import open_refiner
from dualgeo_core.pipeline.stage2 import main_candidates, main_predictions, predictions_by_method, read_scores
from dualgeo_core.pipeline.staleness import is_current
from dualgeo_core.pipeline.workspace import GALLERY, Workspace


def all_scores(workspace: Workspace) -> Scores:
    """Scores by benchmark and method, in the profile's order. Raises InputError if those of a benchmark are stale.

    The method with leakage is there only where leakage changes its scores.
    """
    return {name: without_equal_leakage(read_scores(workspace, name)) for name in workspace.profile.photos.benchmarks}


def current_scores(workspace: Workspace) -> Scores:
    """The scores of the benchmarks for which they are current, as `all_scores`."""
    scores_of = Artifacts(workspace).scores
    return {
        name: read_scores(workspace, name)
        for name in workspace.profile.photos.benchmarks
        if is_current(partial(scores_of, name))
    }


def write_report(workspace: Workspace) -> Path:
    """Writes the report files for git to `workspace.report`, and returns that folder.

    metrics.json, error_cdf.csv and strata.csv are about the main method, scores.csv about all methods. Raises
    InputError if the scores of a benchmark are stale.
    """
    scores = all_scores(workspace)
    main = main_method(workspace.profile).name
    metrics = {name: headline_metrics(by_method[main]) for name, by_method in scores.items()}
    curves = [
        error_curve(predictions_by_method(workspace, name)[main], workspace.photos(name).frame).assign(benchmark=name)
        for name in scores
    ]
    write_json(workspace.report / "metrics.json", metrics)
    _write_csv(workspace, "scores.csv", comparison_table(scores))
    _write_csv(workspace, "strata.csv", coverage_by_stratum(photos_with_strata(workspace)))
    _write_csv(workspace, "error_cdf.csv", pd.concat(curves, ignore_index=True))
    return workspace.report


def photos_with_strata(workspace: Workspace) -> pd.DataFrame:
    """Error, radii and strata of every query photo by the main method, with the column `benchmark`."""
    gallery, parts = workspace.photos(GALLERY).frame, []
    for name in workspace.profile.photos.benchmarks:
        candidates = main_candidates(workspace, name)
        similar = candidates[candidates["kind"] == "similar"]
        photos = with_strata(
            main_predictions(workspace, name),
            workspace.photos(name).frame,
            similarity=similar.groupby("id")["similarity"].max(),
            gallery=gallery,
        )
        parts.append(photos.assign(benchmark=name))
    return pd.concat(parts, ignore_index=True)


def render_report(workspace: Workspace) -> str:
    """The report as one HTML page. Raises InputError if the scores of a benchmark are stale."""
    results = {
        name: BenchmarkResult(
            scores=by_method,
            predictions=predictions_by_method(workspace, name),
            truth=workspace.photos(name).frame,
        )
        for name, by_method in all_scores(workspace).items()
    }
    profile = workspace.profile
    return report_page(
        results,
        profile=profile.name,
        main_method=main_method(profile).name,
        strata=coverage_by_stratum(photos_with_strata(workspace)),
        doubts=open_refiner(workspace).doubts(least_likeness=profile.refinement.least_likeness),
    )


def _write_csv(workspace: Workspace, name: str, frame: pd.DataFrame) -> None:
    with atomic_file(workspace.report / name) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.3f")
