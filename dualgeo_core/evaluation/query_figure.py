"""The evidence behind one query as a picture: photo, candidates, true place, answer and its regions.

It is for pages that show images and run no scripts. Where scripts run, `maps` draws the same query.
"""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from PIL.Image import Image

from dualgeo_core.base.geo import destination, haversine_km
from dualgeo_core.evaluation.plots import draw_world

SHOWN_CANDIDATES = 6
KM_PER_DEGREE = 111.2
NARROWEST_KM = 0.6  # half the side of the zoomed map, so that 300 m are visible
REGIONS = ((90, "tab:orange"), (50, "tab:red"))


@dataclass(frozen=True)
class Query:
    """One query of a benchmark with its candidates (nearest first) and its answer."""

    photo: Image
    truth: "pd.Series[Any]"
    candidates: pd.DataFrame
    answer: "pd.Series[Any]"

    @property
    def error_km(self) -> float:
        """The distance from the answer to the true place; NaN without an answer."""
        return float(
            haversine_km(
                self.answer["latitude"], self.answer["longitude"], self.truth["latitude"], self.truth["longitude"]
            )
        )


def query_figure(query: Query, gallery_photo: Callable[[str], Image]) -> Figure:
    """The photo, a map of the world, a zoom on the answer, and the nearest candidates with their distances.

    `gallery_photo` gives the photo of a gallery id. The zoom shows answer and true place if they are within 50 km of
    each other, otherwise the surroundings of the answer. Regions are the circles with the answer's radii.
    """
    figure = Figure(figsize=(15, 7.6), layout="constrained")
    figure.suptitle(_title(query), fontsize=12)
    top, bottom = cast("list[SubFigure]", figure.subfigures(2, 1, height_ratios=(2.2, 1)))
    photo, world, zoom = top.subplots(1, 3, width_ratios=(1, 2, 1.2))
    _show(photo, query.photo, f"Query {query.answer['id']}")
    draw_world(world)
    world.set_title("Candidates, answer and true place", fontsize=10)
    _draw_places(world, query)
    world.legend(fontsize=8, loc="lower left")
    _draw_zoom(zoom, query)
    nearest = query.candidates.head(SHOWN_CANDIDATES)
    axes = np.atleast_1d(bottom.subplots(1, SHOWN_CANDIDATES))
    for place, candidate in zip(axes, nearest.to_dict("records"), strict=False):
        _show(place, gallery_photo(candidate["gallery_id"]), _caption(candidate, query.truth))
    for place in axes[len(nearest) :]:
        place.set_axis_off()
    return figure


def _title(query: Query) -> str:
    answer = query.answer
    if not math.isfinite(query.error_km):
        return f"No answer: {answer['status']}"
    radii = "radii not calibrated"
    if pd.notna(answer["radius_90_km"]):
        radii = f"50 % radius {distance(answer['radius_50_km'])}, 90 % radius {distance(answer['radius_90_km'])}"
    return f"{answer['place']}: {distance(query.error_km)} from the true place; {radii}"


def _caption(candidate: Mapping[Hashable, Any], truth: "pd.Series[Any]") -> str:
    away = haversine_km(candidate["latitude"], candidate["longitude"], truth["latitude"], truth["longitude"])
    return (
        f"{candidate['rank']}. {candidate['gallery_id']}\n"
        f"similarity {candidate['similarity']:.2f}\n{distance(float(away))} from the true place"
    )


def _show(axes: Axes, image: Image, title: str) -> None:
    axes.imshow(image)
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def _draw_places(axes: Axes, query: Query) -> None:
    candidates, answer, truth = query.candidates, query.answer, query.truth
    axes.scatter(
        candidates["longitude"], candidates["latitude"], s=28, color="tab:blue", alpha=0.6, label="Candidates", zorder=3
    )
    for level, color in REGIONS:
        radius = answer[f"radius_{level}_km"]
        if pd.notna(radius):
            _draw_circle(axes, answer, float(radius), color=color, label=f"{level} % region")
    axes.plot(
        truth["longitude"], truth["latitude"], "P", color="tab:green", markersize=11, label="True place", zorder=5
    )
    axes.plot(answer["longitude"], answer["latitude"], "*", color="tab:red", markersize=13, label="Answer", zorder=6)


def _draw_circle(axes: Axes, centre: "pd.Series[Any]", radius_km: float, *, color: str, label: str) -> None:
    latitude, longitude = destination(centre["latitude"], centre["longitude"], np.linspace(0, 360, 181), radius_km)
    jumps = np.abs(np.diff(longitude)) > 180  # the line would cross the map at the antimeridian
    longitude = np.where(np.append(jumps, False), np.nan, longitude)
    axes.plot(longitude, latitude, color=color, linewidth=1.4, label=label, zorder=4)


def _draw_zoom(axes: Axes, query: Query) -> None:
    answer = query.answer
    if not math.isfinite(query.error_km):
        axes.set_axis_off()
        return
    near = query.error_km <= 50
    radius = answer["radius_50_km"] if pd.notna(answer["radius_50_km"]) else 0.0
    half_km = max(NARROWEST_KM, 1.3 * query.error_km if near else 0.0, 1.3 * min(float(radius), 50.0))
    _draw_places(axes, query)
    height = half_km / KM_PER_DEGREE
    width = height / max(math.cos(math.radians(answer["latitude"])), 0.01)
    axes.set(
        xlim=(answer["longitude"] - width, answer["longitude"] + width),
        ylim=(answer["latitude"] - height, answer["latitude"] + height),
        aspect=width / height,
        title="" if near else "The true place is outside",
    )
    bar_km = 0.3 if half_km < 2 else float(f"{half_km / 2:.1g}")
    length = bar_km / KM_PER_DEGREE * width / height
    left, low = answer["longitude"] - 0.9 * width, answer["latitude"] - 0.9 * height
    axes.plot([left, left + length], [low, low], color="black", linewidth=3)
    axes.text(left, low + 0.04 * height, distance(bar_km), fontsize=9)
    axes.tick_params(labelsize=7)
    axes.ticklabel_format(useOffset=False)


def distance(kilometres: float) -> str:
    """A distance in metres below 1 km, otherwise in kilometres."""
    if kilometres < 1:
        return f"{1000 * kilometres:.0f} m"
    return f"{kilometres:,.0f} km" if kilometres >= 10 else f"{kilometres:.1f} km"
