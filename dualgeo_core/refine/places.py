"""Offline place names: the nearest GeoNames town with at least 1,000 people."""

from typing import Any

import numpy as np
import reverse_geocode
from numpy.typing import ArrayLike, NDArray

from dualgeo_core.base.geo import haversine_km

NEAR_KM = 30.0


def place_names(latitude: ArrayLike, longitude: ArrayLike) -> list[str]:
    """`City, State, Country` of each point, preceded by the distance if the town is more than NEAR_KM away.

    NaN points have an empty name.
    """
    points = np.column_stack([np.asarray(latitude, np.float64).ravel(), np.asarray(longitude, np.float64).ravel()])
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    names = [""] * len(points)
    for row, town in zip(known, nearest_towns(points[known]), strict=True):
        parts = [str(town[key]) for key in ("city", "state", "country") if town.get(key)]
        name = ", ".join(dict.fromkeys(parts))
        distance = float(haversine_km(points[row, 0], points[row, 1], town["latitude"], town["longitude"]))
        names[row] = name if distance <= NEAR_KM else f"{distance:.0f} km from {name}"
    return names


def nearest_towns(points: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The nearest town of each point (n, 2).

    The package searches in plain degrees, so each point is also searched at longitude ± 360°.
    """
    if not len(points):
        return []
    found = [
        reverse_geocode.search(list(zip(points[:, 0], points[:, 1] + turn, strict=True))) for turn in (0, 360, -360)
    ]
    distances = [
        haversine_km(points[:, 0], points[:, 1], [t["latitude"] for t in towns], [t["longitude"] for t in towns])
        for towns in found
    ]
    best = np.argmin(distances, axis=0)
    return [found[turn][row] for row, turn in enumerate(best)]


def country_names() -> set[str]:
    """English names of all countries."""
    return set(reverse_geocode.GeocodeData()._countries.values())  # the package has no public list


def state_names() -> set[str]:
    """Names of all first-level divisions that contain a town."""
    return {town.get("state", "") for town in reverse_geocode.GeocodeData()._locations}
