"""The density of photos on Earth: the prior that prefers a crowded square to an empty field.

The shipped sample is 86,643 places of 100,000 photos of MP-16, rounded to 0.001° (GeoCLIP's gallery, MIT licence).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation, gaussian_filter1d
from scipy.spatial import cKDTree

from dualgeo_core.base.geo import EARTH_RADIUS_KM, FloatArray, unit_vectors

SHIPPED_PLACES = Path(__file__).parent / "data" / "photo_places.parquet"
WIDTHS_KM = (4.0, 12.0, 100.0, 400.0)
SPOT_RADIUS_KM = 1.5
MOST = 100_000  # positions used at most; `posterior` weighs candidates against a sample of this size
_CELL_DEGREES = (0.1, 0.1, 0.5, 1.0)  # cell size of each width's raster; 0.1° limits the memory for 4 km
_SAMPLE = 2_000  # places that tell the share of photos within a radius
_TRUNCATE = 4.0  # the Gaussian along the meridians ends at this many standard deviations
_FLOOR = 0.1  # share of the Earth's mean density that is added: photos at sea are rare, not impossible


@dataclass(frozen=True)
class PhotoDensity:
    """The density of photos smoothed over WIDTHS_KM, and the photos around each known position."""

    rasters: tuple[NDArray[np.float32], ...]
    tree: cKDTree
    spot_count: FloatArray
    spot_sum: FloatArray

    def log_density(self, latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.float32]:
        """Natural logarithm of density / mean density, shape (..., len(WIDTHS_KM)); NaN is read as 0°N 0°E."""
        lat, lon = np.nan_to_num(latitude).astype(np.float32), np.nan_to_num(longitude).astype(np.float32)
        found = np.empty((*lat.shape, len(WIDTHS_KM)), dtype=np.float32)
        for index, (raster, degrees) in enumerate(zip(self.rasters, _CELL_DEGREES, strict=True)):
            rows, columns = raster.shape
            row = np.minimum(((lat + 90) * np.float32(1 / degrees)).astype(np.int32), rows - 1)
            column = np.minimum(((lon + 180) * np.float32(1 / degrees)).astype(np.int32), columns - 1)
            found[..., index] = np.take(raster, row * columns + column, mode="clip")
        return found

    def spots(self, points_xyz: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The count (n,) and vector sum (n, 3) of photos around the known position nearest to each point.

        Both cover SPOT_RADIUS_KM. They are zero if no known position is within SPOT_RADIUS_KM of the point.
        """
        chord = 2 * np.sin(SPOT_RADIUS_KM / EARTH_RADIUS_KM / 2)
        distance, nearest = self.tree.query(points_xyz, distance_upper_bound=chord)
        near = np.isfinite(distance)
        nearest = np.where(near, nearest, 0)
        return self.spot_count[nearest] * near, self.spot_sum[nearest] * near[:, None]

    def share_within(self, latitude: ArrayLike, longitude: ArrayLike, radii_km: Sequence[float]) -> FloatArray:
        """The share of photos within each of `radii_km` of each point (n, radii): that of a sample, with the floor."""
        places = self.tree.data[:: -(-len(self.tree.data) // _SAMPLE)]
        cosine = unit_vectors(latitude, longitude) @ places.T
        angles = np.array(radii_km) / EARTH_RADIUS_KM
        inside = np.stack([(cosine >= np.cos(min(angle, np.pi)) - 1e-12).mean(axis=1) for angle in angles], axis=1)
        return (inside + _FLOOR * (1 - np.cos(np.minimum(angles, np.pi))) / 2) / (1 + _FLOOR)


def density_of(latitude: ArrayLike, longitude: ArrayLike, photos: ArrayLike | None = None) -> PhotoDensity:
    """The density of `photos[i]` photos (default: 1) at each position; uses a random sample of at most MOST."""
    lat, lon = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    weight = np.ones(len(lat)) if photos is None else np.asarray(photos, np.float64)
    if len(lat) > MOST:
        drawn = np.random.default_rng(0).choice(len(lat), MOST, replace=False)
        lat, lon, weight = lat[drawn], lon[drawn], weight[drawn]
    vectors = unit_vectors(lat, lon)
    tree = cKDTree(vectors)
    pairs = tree.query_pairs(2 * np.sin(SPOT_RADIUS_KM / EARTH_RADIUS_KM / 2), output_type="ndarray")
    count, total = weight.copy(), vectors * weight[:, None]
    for here, there in ((pairs[:, 0], pairs[:, 1]), (pairs[:, 1], pairs[:, 0])):
        count += np.bincount(here, weights=weight[there], minlength=len(lat))
        for axis in range(3):
            total[:, axis] += np.bincount(here, weights=(weight * vectors[:, axis])[there], minlength=len(lat))
    rasters = tuple(
        _raster(lat, lon, weight, width_km=width, degrees=degrees)
        for width, degrees in zip(WIDTHS_KM, _CELL_DEGREES, strict=True)
    )
    return PhotoDensity(rasters=rasters, tree=tree, spot_count=count, spot_sum=total)


def gallery_density(gallery: pd.DataFrame) -> PhotoDensity:
    """The density of the gallery's photos: the prior for queries against this gallery."""
    return density_of(gallery["latitude"], gallery["longitude"])


@cache
def shipped_density() -> PhotoDensity:
    """The density of the sample that ships with the package."""
    places = shipped_places()
    return density_of(places["latitude"], places["longitude"], places["photos"])


def shipped_places() -> pd.DataFrame:
    """The sample that ships with the package: latitude, longitude, and the number of photos at each place."""
    places = pd.read_parquet(SHIPPED_PLACES)
    degrees = {name: places[f"{name}_e3"] / 1000 for name in ("latitude", "longitude")}
    return pd.DataFrame({**degrees, "photos": places["photos"]})


def _raster(
    latitude: FloatArray, longitude: FloatArray, weight: FloatArray, *, width_km: float, degrees: float
) -> NDArray[np.float32]:
    """Log density by cell, smoothed by a Gaussian of `width_km` along the parallels (exactly), then the meridians."""
    edges = [np.linspace(-side, side, round(2 * side / degrees) + 1) for side in (90, 180)]
    counts = np.histogram2d(latitude, longitude, bins=edges, weights=weight)[0]
    narrowing = np.cos(np.radians(edges[0][:-1] + degrees / 2))
    width = width_km / EARTH_RADIUS_KM
    deviation = np.degrees(width) / degrees  # of the Gaussian along the meridians, in rows
    occupied = counts.any(axis=1)  # the others need no transform, and those far from them no smoothing
    reached = binary_dilation(occupied, iterations=int(_TRUNCATE * deviation + 0.5))
    waves = np.fft.rfft(counts[occupied], axis=1)
    damping = np.exp(-0.5 * (np.arange(waves.shape[1]) * (width / narrowing[occupied])[:, None]) ** 2)
    smooth = np.zeros_like(counts)
    smooth[occupied] = np.fft.irfft(waves * damping, n=counts.shape[1], axis=1)
    smooth = gaussian_filter1d(smooth[reached], deviation, axis=0, mode="constant", truncate=_TRUNCATE)
    share_of_mean = np.maximum(smooth, 0) / weight.sum() / narrowing[reached, None] * narrowing.sum() * counts.shape[1]
    raster = np.full(counts.shape, np.log(_FLOOR), dtype=np.float32)
    raster[reached] = np.log(share_of_mean + _FLOOR)
    return raster
