"""Scores as headline metrics, as one table of all methods, and as error curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dualgeo_core.evaluation.scores import METRICS, TOO_FEW, errors_km

CURVE_POINTS = 60
HEADLINES = (*METRICS, "median_km", "coverage_50", "coverage_90", "median_radius_90_km")
SHARES = (*METRICS, "coverage_50", "coverage_90")
HEADERS = {
    **{name: f"Within {name.removeprefix('acc_').replace('km', ' km')} (%)" for name in METRICS},
    "benchmark": "Benchmark",
    "method": "Method",
    "acc_25km_low": "Within 25 km, 95 % interval: low (%)",
    "acc_25km_high": "Within 25 km, 95 % interval: high (%)",
    "median_km": "Median error (km)",
    "coverage_50": "Within the 50 % radius (%)",
    "coverage_90": "Within the 90 % radius (%)",
    "median_radius_50_km": "Median 50 % radius (km)",
    "median_radius_90_km": "Median 90 % radius (km)",
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


def named_scores(score: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of one method under names with units: percentages with one decimal, distances with three digits."""
    named: dict[str, Any] = {"Photos": score["n"]}
    for name in SHARES:
        if score[name] is not None:
            named[HEADERS[name]] = round(score[name], 1)
    named["Within 25 km, 95 % interval (%)"] = interval_text(score["acc_25km_interval"])
    for name in ("median_km", "median_radius_50_km", "median_radius_90_km"):
        if score[name] is not None:
            named[HEADERS[name]] = three_digits(score[name])
    return named


def percent_text(share: float | None) -> str:
    """A percentage as every table shows it, with one decimal; empty without one."""
    return "" if share is None else f"{share:.1f}"


def interval_text(interval: Sequence[float] | None) -> str:
    """An interval of percentages as `low to high`, or the reason why there is none."""
    if interval is None:
        return TOO_FEW
    low, high = interval
    return f"{percent_text(low)} to {percent_text(high)}"


def three_digits(value: float) -> float:
    """The value with three significant digits."""
    return float(f"{value:.3g}")


def benchmark_overview(scores: Scores, method: str) -> pd.DataFrame:
    """One row per benchmark about one method, with readable headers and values as text."""
    rows = []
    for benchmark, by_method in scores.items():
        score = by_method[method]
        median = score["median_km"]
        rows.append(
            {
                "Benchmark": benchmark,
                "Photos": score["n"],
                HEADERS["acc_25km"]: percent_text(score["acc_25km"]),
                "95 % interval": interval_text(score["acc_25km_interval"]),
                "Median (km)": "" if median is None else f"{three_digits(median):g}",
                "In 90 % radius (%)": percent_text(score["coverage_90"]),
            }
        )
    return pd.DataFrame(rows)


def comparison_table(scores: Scores) -> pd.DataFrame:
    """One row per benchmark and method: accuracies, the interval at 25 km, median error, coverage."""
    rows = []
    for benchmark, by_method in scores.items():
        for method, score in by_method.items():
            low, high = score["acc_25km_interval"] or (None, None)  # too few photographers to tell
            row = {"benchmark": benchmark, "method": method, **{name: score[name] for name in METRICS}}
            row |= {"acc_25km_low": low, "acc_25km_high": high, "median_km": score["median_km"]}
            rows.append({**row, **{name: score[name] for name in ("coverage_50", "coverage_90")}, "n": score["n"]})
    return pd.DataFrame(rows)


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """A comparison table with readable headers and units."""
    return table.rename(columns=HEADERS)


def error_curve(predictions: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The share of photos located within each distance: columns error_km, share (0 to 1)."""
    distances_km = np.geomspace(0.1, 20_000, CURVE_POINTS)
    share = (errors_km(predictions, truth)[:, None] <= distances_km).mean(axis=0)
    return pd.DataFrame({"error_km": distances_km.round(3), "share": share.round(4)})
