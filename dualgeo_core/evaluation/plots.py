"""Plots of an evaluation: error curves, error map, all benchmarks, accuracy against coverage."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dualgeo_core.base.geo import THRESHOLDS_KM
from dualgeo_core.evaluation.scores import accuracy_by_coverage, errors_km
from dualgeo_core.maps.coast import coastlines

SHORTEST_KM, LONGEST_KM, FAR_KM = 0.1, 20_000, 200
ERROR_COLOURS = "viridis_r"  # perceptually uniform and safe for colour-blind readers; the farther off, the darker
RADII = ((50, "#e69f00", "o"), (90, "#0072b2", "s"))  # level (%), colour (Okabe and Ito, 2008) and marker


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
    """The true positions of the queries, darker with a larger error; lines lead to answers over FAR_KM off."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    draw_world(axes)
    errors = errors_km(predictions, truth)
    found = predictions.set_index("id").reindex(truth["id"])
    far = np.isfinite(errors) & (errors > FAR_KM)
    # A line between positions on both sides of the date line would cross the whole map.
    near_in_longitude = np.abs(found["longitude"].to_numpy() - truth["longitude"].to_numpy()) < 180
    for row in np.flatnonzero(far & near_in_longitude):
        axes.plot(
            [truth["longitude"].iloc[row], found["longitude"].iloc[row]],
            [truth["latitude"].iloc[row], found["latitude"].iloc[row]],
            color="black",
            alpha=0.12,
            linewidth=0.7,
        )
    worst_on_top = np.argsort(errors)
    points = axes.scatter(
        truth["longitude"].iloc[worst_on_top],
        truth["latitude"].iloc[worst_on_top],
        c=np.log10(errors[worst_on_top].clip(SHORTEST_KM, LONGEST_KM)),
        cmap=ERROR_COLOURS,
        vmin=np.log10(SHORTEST_KM),
        vmax=np.log10(LONGEST_KM),
        s=18,
        edgecolors="black",
        linewidths=0.3,
        zorder=3,
    )
    axes.plot([], [], color="0.5", linewidth=1, label=f"Line to an answer over {FAR_KM} km off")
    axes.legend(fontsize=8, loc="lower left")
    bar = figure.colorbar(points, ax=axes, label="Error (km), at the true place")
    bar.set_ticks([-1, 0, 1, 2, 3, 4], labels=["0.1", "1", "10", "100", "1,000", "10,000"])
    return figure


def benchmarks(scores: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Accuracy within 25 km with its 95 % interval, and coverage of the radii, for each benchmark's scores."""
    figure = Figure(figsize=(10, 0.7 * len(scores) + 1.6), layout="constrained")
    accuracy, coverage = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(scores))[::-1]
    for place, score in zip(places, scores.values(), strict=True):
        bounds = score["acc_25km_interval"] or []  # too few photographers to tell
        accuracy.plot(bounds, [place] * len(bounds), color="tab:blue", alpha=0.4, linewidth=6, solid_capstyle="butt")
        accuracy.plot(score["acc_25km"], place, "o", color="tab:blue")
        for level, color, marker in RADII:
            if score[f"coverage_{level}"] is not None:
                coverage.plot(score[f"coverage_{level}"], place, marker, color=color)
    for level, color, _ in RADII:
        coverage.axvline(level, color=color, linestyle=":", label=f"{level} % radius: should hold {level} %")
    accuracy.set(xlim=(0, 100), xlabel="Within 25 km (%), with 95 % interval", yticks=places, yticklabels=list(scores))
    coverage.set(xlim=(0, 100), ylim=(-0.6, len(scores) - 0.4), xlabel="Radii that hold the true place (%)")
    coverage.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 1.25), ncols=2, frameon=False)
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


def draw_world(axes: Axes) -> None:
    """Draws the coastlines of the whole Earth."""
    for line in coastlines():
        longitude, latitude = zip(*line, strict=True)
        axes.plot(longitude, latitude, color="0.6", linewidth=0.5, zorder=1)
    axes.set(xlim=(-180, 180), ylim=(-62, 85), xlabel="Longitude (°)", ylabel="Latitude (°)", aspect="equal")
