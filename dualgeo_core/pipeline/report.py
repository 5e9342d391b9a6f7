"""The last evaluation of a workspace: its scores, the report files for git, and the report page."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from PIL.Image import Image

from dualgeo_core.base.files import atomic_file, write_json
from dualgeo_core.evaluation.query_figure import Query, query_figure
from dualgeo_core.evaluation.report import Scores, comparison_table, error_curve, headline_metrics
from dualgeo_core.evaluation.report_page import BenchmarkResult, report_page
from dualgeo_core.evaluation.scores import errors_km
from dualgeo_core.evaluation.strata import coverage_by_stratum, with_strata
from dualgeo_core.photos.decode import decode_image
from dualgeo_core.pipeline.artifacts import Artifacts
from dualgeo_core.pipeline.methods import main_method, without_equal_leakage
from dualgeo_core.pipeline.opening import open_refiner
from dualgeo_core.pipeline.stage2 import main_candidates, main_predictions, predictions_by_method, read_scores
from dualgeo_core.pipeline.staleness import is_current
from dualgeo_core.pipeline.workspace import GALLERY, Workspace

QUERY_RADIUS_KM = 25  # an answer within this distance is shown as right


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


def query_figures(workspace: Workspace, benchmark: str) -> dict[str, Figure]:
    """Pictures of the surest right, the surest wrong and the least sure answer of a benchmark (25 km), by caption."""
    queries, gallery = workspace.photos(benchmark), workspace.photos(GALLERY)
    truth = queries.frame.set_index("id")
    candidates = main_candidates(workspace, benchmark)
    candidates = candidates[candidates["kind"] == "similar"].sort_values("rank")
    answers = main_predictions(workspace, benchmark).dropna(subset=["latitude", "confidence_25km"])

    def query(answer: "pd.Series[Any]") -> Query:
        photo_id = answer["id"]
        return Query(
            photo=decode_image(queries.image(photo_id)),
            truth=truth.loc[photo_id],
            candidates=candidates[candidates["id"] == photo_id],
            answer=answer,
        )

    def gallery_photo(photo_id: str) -> Image:
        return decode_image(gallery.image(photo_id))

    return {
        caption: query_figure(query(answer), gallery_photo)
        for caption, answer in _chosen(answers, queries.frame).items()
    }


def _chosen(answers: pd.DataFrame, truth: pd.DataFrame) -> "dict[str, pd.Series[Any]]":
    """The answers to show, by caption; a caption without an answer is left out."""
    if answers.empty:
        return {}
    errors = pd.Series(errors_km(answers, truth), index=truth["id"]).loc[answers["id"]].to_numpy()
    sure = answers.assign(right=errors <= QUERY_RADIUS_KM).sort_values("confidence_25km", ascending=False)
    shown = {
        "Surest right answer": sure[sure["right"]].head(1),
        "Surest wrong answer": sure[~sure["right"]].head(1),
        "Least sure answer": sure.tail(1),
    }
    return {caption: rows.iloc[0] for caption, rows in shown.items() if len(rows)}


def _write_csv(workspace: Workspace, name: str, frame: pd.DataFrame) -> None:
    with atomic_file(workspace.report / name) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.3f")
