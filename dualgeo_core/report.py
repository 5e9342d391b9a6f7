"""The last evaluation in files small enough for git: scores of every benchmark and method, and error curves."""

from typing import Any

import numpy as np
import pandas as pd

from dualgeo_core.errors import InputError
from dualgeo_core.evaluate import METRICS, errors_km
from dualgeo_core.files import atomic_file, fingerprint, read_json, write_json
from dualgeo_core.methods import Method, compared_methods, main_method
from dualgeo_core.signatures import scores_signature
from dualgeo_core.stage2 import read_predictions
from dualgeo_core.workspace import Workspace

CURVE_POINTS = 60
HEADLINES = (*METRICS, "median_km", "coverage_50", "coverage_90", "median_radius_90_km")

HEADERS = {
    **{name: name.removeprefix("acc_").replace("km", " km") for name in METRICS},
    "acc_25km_low": "25 km, low",
    "acc_25km_high": "25 km, high",
    "median_km": "median km",
    "coverage_90": "90 % radius holds",
    "n": "photos",
}
Scores = dict[str, dict[str, dict[str, Any]]]


def read_scores(workspace: Workspace) -> Scores:
    """Scores by benchmark and method, in the profile's order; raises InputError where a benchmark has none now."""
    methods = [method.name for method in compared_methods(workspace.profile)]
    scores = {}
    for name in workspace.profile.photos.benchmarks:
        found = read_json(workspace.scores(name))
        if found["fingerprint"] != scores_signature(workspace, name):
            raise InputError(f"{workspace.scores(name)} is of earlier predictions: materialize scores again")
        scores[name] = {method: found["scores"][method] for method in methods}
    return scores


def write_report(workspace: Workspace) -> dict[str, Any]:
    """Writes metrics.json (the answering method), scores.csv (every method) and error_cdf.csv to `workspace.report`."""
    scores = read_scores(workspace)
    main = main_method(workspace.profile)
    metrics = {name: headline_metrics(by_method[main.name]) for name, by_method in scores.items()}
    write_json(workspace.report / "metrics.json", metrics)
    _write_csv(workspace, "scores.csv", comparison_table(scores))
    _write_csv(workspace, "error_cdf.csv", _error_curves(workspace, main))
    return {
        "benchmarks": len(scores),
        "methods": len(compared_methods(workspace.profile)),
        "fingerprint": fingerprint(scores),
    }


def headline_metrics(score: dict[str, Any]) -> dict[str, float]:
    """The numbers that runs are compared by; those that do not exist are left out."""
    return {name: round(float(score[name]), 3) for name in HEADLINES if score[name] is not None}


def comparison_table(scores: Scores) -> pd.DataFrame:
    """A row per benchmark and method: accuracies, the interval at 25 km, median error, coverage."""
    rows = []
    for benchmark, by_method in scores.items():
        for method, score in by_method.items():
            low, high = score["acc_25km_interval"]
            row = {"benchmark": benchmark, "method": method, **{name: score[name] for name in METRICS}}
            row |= {"acc_25km_low": low, "acc_25km_high": high, "median_km": score["median_km"]}
            rows.append({**row, "coverage_90": score["coverage_90"], "n": score["n"]})
    return pd.DataFrame(rows)


def _error_curves(workspace: Workspace, main: Method) -> pd.DataFrame:
    """Share of queries within each distance, by benchmark, for the answering method."""
    distances_km = np.geomspace(0.1, 20_000, CURVE_POINTS)
    parts = []
    for benchmark in workspace.profile.photos.benchmarks:
        predictions = read_predictions(workspace, benchmark)
        errors = errors_km(
            predictions[predictions["method"] == main.name].drop(columns="method"), workspace.photos(benchmark).frame
        )
        share = (errors[:, None] <= distances_km).mean(axis=0)
        parts.append(pd.DataFrame({"error_km": distances_km.round(3), "share": share.round(4), "benchmark": benchmark}))
    return pd.concat(parts, ignore_index=True)


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """A comparison table under headers that need no explanation; accuracies and coverage are in %."""
    return table.rename(columns=HEADERS)


def _write_csv(workspace: Workspace, name: str, frame: pd.DataFrame) -> None:
    with atomic_file(workspace.report / name) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.3f")
