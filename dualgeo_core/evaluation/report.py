"""Scores as headline metrics, as one table of all methods, and as error curves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dualgeo_core.evaluation.scores import METRICS, errors_km

CURVE_POINTS = 60
HEADLINES = (*METRICS, "median_km", "coverage_50", "coverage_90", "median_radius_90_km")
HEADERS = {
    **{name: f"Within {name.removeprefix('acc_').replace('km', ' km')} (%)" for name in METRICS},
    "benchmark": "Benchmark",
    "method": "Method",
    "acc_25km_low": "Within 25 km, 95 % interval: low (%)",
    "acc_25km_high": "Within 25 km, 95 % interval: high (%)",
    "median_km": "Median error (km)",
    "coverage_50": "Within 50 % radius (%)",
    "coverage_90": "Within 90 % radius (%)",
    "kind": "Kind",
    "stratum": "Stratum",
    "photos": "Photos",
    "photographers": "Photographers",
    "without position": "Photos without position",
    "n": "Photos",
}
Scores = dict[str, dict[str, dict[str, Any]]]  # by benchmark, then by method


def headline_metrics(score: Mapping[str, Any]) -> dict[str, float]:
    """The metrics for comparing runs, without those that are None."""
    return {name: round(float(score[name]), 3) for name in HEADLINES if score[name] is not None}


def comparison_table(scores: Scores) -> pd.DataFrame:
    """One row per benchmark and method: accuracies, the interval at 25 km, median error, coverage."""
    rows = []
    for benchmark, by_method in scores.items():
        for method, score in by_method.items():
            low, high = score["acc_25km_interval"] or (None, None)  # too few photographers to tell
            row = {"benchmark": benchmark, "method": method, **{name: score[name] for name in METRICS}}
            row |= {"acc_25km_low": low, "acc_25km_high": high, "median_km": score["median_km"]}
            rows.append({**row, "coverage_90": score["coverage_90"], "n": score["n"]})
    return pd.DataFrame(rows)


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """A comparison table with readable headers and units."""
    return table.rename(columns=HEADERS)


def error_curve(predictions: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The share of photos located within each distance: columns error_km, share (0 to 1)."""
    distances_km = np.geomspace(0.1, 20_000, CURVE_POINTS)
    share = (errors_km(predictions, truth)[:, None] <= distances_km).mean(axis=0)
    return pd.DataFrame({"error_km": distances_km.round(3), "share": share.round(4)})
