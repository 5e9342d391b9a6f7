"""The GeoNames towns nearest to points: all with at least 1,000 people, from the package reverse-geocode."""

from typing import Any

import numpy as np
import reverse_geocode
from numpy.typing import ArrayLike, NDArray

from dualgeo_core.base.geo import FloatArray, haversine_km


def nearest_towns(points: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The nearest town of each point (n, 2), given as latitude and longitude in degrees.

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


def town_distance_km(latitude: ArrayLike, longitude: ArrayLike) -> FloatArray:
    """The distance (n,) of each point to the nearest town in km; infinite for positions that do not exist."""
    lat, lon = np.asarray(latitude, dtype=np.float64), np.asarray(longitude, dtype=np.float64)
    exists = (np.abs(lat) <= 90) & (np.abs(lon) <= 180)
    towns = nearest_towns(np.column_stack([lat[exists], lon[exists]]))
    distance = np.full(len(lat), np.inf)
    distance[exists] = haversine_km(
        lat[exists], lon[exists], [town["latitude"] for town in towns], [town["longitude"] for town in towns]
    )
    return distance
