"""Plots of an evaluation: error curves, error map, evidence of one query, accuracy against coverage."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dualgeo_core.base.geo import THRESHOLDS_KM
from dualgeo_core.evaluation.scores import accuracy_by_coverage, errors_km
from dualgeo_core.maps.coast import coastlines

SHORTEST_KM, LONGEST_KM = 0.1, 20_000


def error_cdf(predictions: Mapping[str, pd.DataFrame], truth: pd.DataFrame) -> Figure:
    """The cumulative distribution of the error, one curve per method."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for method, found in predictions.items():
        errors = np.sort(errors_km(found, truth)).clip(SHORTEST_KM, LONGEST_KM)
        axes.step(errors, 100 * np.arange(1, len(errors) + 1) / len(errors), where="post", label=method)
    for threshold in THRESHOLDS_KM:
        axes.axvline(threshold, color="0.85", linewidth=0.8, zorder=0)
    axes.set(xscale="log", xlim=(SHORTEST_KM, LONGEST_KM), ylim=(0, 100), xlabel="Error (km)", ylabel="Queries (%)")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def error_map(predictions: pd.DataFrame, truth: pd.DataFrame) -> Figure:
    """The true positions of the queries, coloured by error; lines lead to answers more than 200 km off."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    _draw_world(axes)
    errors = errors_km(predictions, truth)
    found = predictions.set_index("id").reindex(truth["id"])
    far = np.isfinite(errors) & (errors > 200)
    # A line between positions on both sides of the date line would cross the whole map.
    near_in_longitude = np.abs(found["longitude"].to_numpy() - truth["longitude"].to_numpy()) < 180
    for row in np.flatnonzero(far & near_in_longitude):
        axes.plot(
            [truth["longitude"].iloc[row], found["longitude"].iloc[row]],
            [truth["latitude"].iloc[row], found["latitude"].iloc[row]],
            color="tab:red",
            alpha=0.12,
            linewidth=0.7,
        )
    points = axes.scatter(
        truth["longitude"],
        truth["latitude"],
        c=np.log10(errors.clip(SHORTEST_KM, LONGEST_KM)),
        cmap="RdYlGn_r",
        vmin=-1,
        vmax=np.log10(LONGEST_KM),
        s=10,
        zorder=3,
    )
    bar = figure.colorbar(points, ax=axes, shrink=0.8, label="Error (km)")
    bar.set_ticks([-1, 0, 1, 2, 3, 4], labels=["0.1", "1", "10", "100", "1,000", "10,000"])
    return figure


def query_map(candidates: pd.DataFrame, clusters: pd.DataFrame, prediction: "pd.Series[float]") -> Figure:
    """One query's candidates, their clusters, and the answer with its 90 % radius."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    _draw_world(axes)
    axes.scatter(
        candidates["longitude"],
        candidates["latitude"],
        s=30 * candidates["rank"].to_numpy(np.float64) ** -0.5 + 6,
        color="tab:blue",
        alpha=0.6,
        label="Candidates",
        zorder=3,
    )
    axes.scatter(
        clusters["longitude"],
        clusters["latitude"],
        s=600 * clusters["mass"],
        facecolors="none",
        edgecolors="tab:orange",
        label="Clusters (area: mass)",
        zorder=4,
    )
    axes.plot(
        prediction["longitude"], prediction["latitude"], "*", color="tab:red", markersize=14, label="Answer", zorder=5
    )
    radius = prediction["radius_90_km"]
    axes.set_title(str(prediction["place"]) + ("" if pd.isna(radius) else f"; 90 % radius {radius:,.0f} km"))
    axes.legend(fontsize=8, loc="lower left")
    return figure


def coverage_curve(predictions: pd.DataFrame, truth: pd.DataFrame) -> Figure:
    """Accuracy within 25 km over the share of photos answered, most confident first."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    curve = accuracy_by_coverage(predictions=predictions, truth=truth)
    axes.plot(curve["coverage"], curve["accuracy"])
    axes.set(
        xlabel="Photos answered, most confident first (%)",
        ylabel="Within 25 km (% of answered)",
        xlim=(0, 100),
        ylim=(0, 100),
    )
    return figure


def _draw_world(axes: Axes) -> None:
    for line in coastlines():
        longitude, latitude = zip(*line, strict=True)
        axes.plot(longitude, latitude, color="0.6", linewidth=0.5, zorder=1)
    axes.set(xlim=(-180, 180), ylim=(-62, 85), xlabel="Longitude (°)", ylabel="Latitude (°)", aspect="equal")
