"""Vectorised geometry of the sphere. Latitude and longitude are WGS84 degrees, distances are kilometres."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS_KM = 6371.0088
HALF_CIRCUMFERENCE_KM = float(np.pi * EARTH_RADIUS_KM)
THRESHOLDS_KM = (1, 25, 200, 750, 2500)  # the usual accuracy thresholds: street, city, region, country, continent

NULL_ISLAND = "coordinates 0,0"

FloatArray = NDArray[np.float64]


def haversine_km(
    latitude_a: ArrayLike, longitude_a: ArrayLike, latitude_b: ArrayLike, longitude_b: ArrayLike
) -> FloatArray:
    """Great-circle distances in km. The arguments broadcast against each other."""
    lat_a, lon_a, lat_b, lon_b = (
        np.radians(np.asarray(x, dtype=np.float64)) for x in (latitude_a, longitude_a, latitude_b, longitude_b)
    )
    half_chord_squared = (
        np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half_chord_squared, 0.0, 1.0)))


def unit_vectors(latitude: ArrayLike, longitude: ArrayLike) -> FloatArray:
    """Unit vectors of shape (..., 3). The x axis points to 0°N 0°E, the z axis to the North Pole."""
    lat, lon = np.radians(np.asarray(latitude, dtype=np.float64)), np.radians(np.asarray(longitude, dtype=np.float64))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def coordinates(vectors_xyz: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Latitude and longitude in degrees of vectors of shape (..., 3). The vectors must not be zero."""
    vectors = np.asarray(vectors_xyz, dtype=np.float64)
    latitude = np.degrees(np.arctan2(vectors[..., 2], np.hypot(vectors[..., 0], vectors[..., 1])))
    return latitude, np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0]))


def spherical_mean(latitude: ArrayLike, longitude: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """The weighted mean position (projected chordal mean), or the first point if the points cancel out."""
    vectors = unit_vectors(latitude, longitude)
    mean = np.average(vectors, axis=0, weights=None if weights is None else np.asarray(weights, dtype=np.float64))
    centre_latitude, centre_longitude = coordinates(mean if np.linalg.norm(mean) > 1e-12 else vectors[0])
    return float(centre_latitude), float(centre_longitude)


def destination(
    latitude: ArrayLike, longitude: ArrayLike, bearing_degrees: ArrayLike, distance_km: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """The end of a great-circle path of `distance_km` that starts at `bearing_degrees` (0 = north, 90 = east)."""
    lat, lon, bearing = (np.radians(np.asarray(x, dtype=np.float64)) for x in (latitude, longitude, bearing_degrees))
    angle = np.asarray(distance_km, dtype=np.float64) / EARTH_RADIUS_KM
    sin_lat = np.sin(lat) * np.cos(angle) + np.cos(lat) * np.sin(angle) * np.cos(bearing)
    arrival_lat = np.arcsin(np.clip(sin_lat, -1.0, 1.0))
    east = np.sin(bearing) * np.sin(angle) * np.cos(lat)
    arrival_lon = lon + np.arctan2(east, np.cos(angle) - np.sin(lat) * np.sin(arrival_lat))
    return np.degrees(arrival_lat), wrap_longitude(np.degrees(arrival_lon))


def wrap_longitude(longitude: ArrayLike) -> FloatArray:
    """Longitudes in [-180, 180) of the same meridians."""
    return (np.asarray(longitude, dtype=np.float64) + 180.0) % 360.0 - 180.0


def coordinate_fault(latitude: float, longitude: float) -> str | None:
    """The reason why a position is unusable, or None if it is usable.

    It is unusable if it is missing, out of range, or exactly 0,0, which broken receivers report.
    """
    if not (np.isfinite(latitude) and np.isfinite(longitude)):
        return "no coordinates"
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        return f"coordinates out of range ({latitude:g}, {longitude:g})"
    if latitude == 0 and longitude == 0:
        return NULL_ISLAND
    return None
