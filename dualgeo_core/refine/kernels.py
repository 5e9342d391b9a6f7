"""Kernels exp(-d/s) on the sphere, and lookup tables of their values and integrals by binned distance.

For speed, a table lookup replaces each exponential or integral, and the bits of a float give the bin.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.geo import EARTH_RADIUS_KM, HALF_CIRCUMFERENCE_KM, FloatArray

RANK_DECAY = 0.3  # without scores, rank r has the weight r^-0.3
SCALES_KM = (0.05, 0.2, 1.0, 5.0, 25.0, 120.0, 600.0, 3000.0)
SUPPORT_KM = (2.0, 25.0, 200.0, 750.0)

# The scales and radii begin below the errors of photos of the same street. Otherwise every such photo lies within the
# smallest radius, and a 50 % radius covers more than half of them.
RADII_KM = (
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0, 750.0, 1300.0, 2500.0, 5000.0),
    20016.0,
)

_MANTISSA_BITS = 4  # 16 bins for each doubling of the squared chord: 2.2 % in distance
_SHIFT = 23 - _MANTISSA_BITS
_SMALLEST = np.float32((0.01 / EARTH_RADIUS_KM) ** 2)
_FIRST = int(np.asarray(_SMALLEST).view(np.int32)) >> _SHIFT
BINS = (int(np.float32(4.0).view(np.int32)) >> _SHIFT) - _FIRST + 1


def distance_bins(a_xyz: FloatArray, b_xyz: FloatArray) -> NDArray[np.intp]:
    """Bins (..., i, j) of the distances between float64 unit vectors (..., i, 3) and (..., j, 3).

    The product resolves a decimetre in float64; in float32 it would not resolve distances under 2 km.
    """
    squared = np.matmul(a_xyz, np.swapaxes(b_xyz, -1, -2))
    squared *= -2
    squared += 2
    bins = np.maximum(squared, _SMALLEST, dtype=np.float32).view(np.int32)
    bins >>= _SHIFT
    bins -= _FIRST
    return np.minimum(bins, BINS - 1, out=bins).astype(np.intp)  # the index type of np.take, converted once


@cache
def bin_distances_km() -> FloatArray:
    """The distance in km at the middle of each bin, (BINS,)."""
    edges = (np.arange(_FIRST, _FIRST + BINS + 1, dtype=np.int32) << _SHIFT).view(np.float32).astype(np.float64)
    middle = np.sqrt(np.clip((edges[:-1] + edges[1:]) / 2, 0, 4))
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.clip(middle / 2, 0, 1))


def log_kernel(distance_km: FloatArray, scale_km: FloatArray) -> FloatArray:
    """Natural logarithm of the kernel's density per km², normalised over the sphere."""
    ratio = EARTH_RADIUS_KM / scale_km
    mass = 2 * np.pi * EARTH_RADIUS_KM**2 * (1 + np.exp(-np.pi * ratio)) / (1 + ratio**2)
    return -distance_km / scale_km - np.log(mass)


def look_up(table: NDArray[np.float32], bins: NDArray[np.intp]) -> NDArray[np.float32]:
    """`table[bins]` without the copy that NumPy makes to check bounds; all `bins` must be in range."""
    return np.take(table, bins, axis=0, mode="clip")


@cache
def support_tables() -> tuple[NDArray[np.float32], ...]:
    """exp(-d/s) by bin: one table (BINS,) for each of SUPPORT_KM."""
    return tuple(np.exp(-bin_distances_km() / scale_km).astype(np.float32) for scale_km in SUPPORT_KM)


@cache
def hits_table(radii_km: tuple[float, ...]) -> NDArray[np.float32]:
    """The expected number of `radii_km` met by a point, by its bin and the kernel's scale: (BINS, len(SCALES_KM))."""
    return within_table(radii_km).sum(axis=2)


@cache
def within_table(radii_km: tuple[float, ...]) -> NDArray[np.float32]:
    """The kernel's mass within each radius of a point, by the bin of the point's distance from the kernel's centre.

    Shape (BINS, len(SCALES_KM), len(radii_km)); integrated over 64 distances by 32 bearings from the centre.
    """
    centre_distance = bin_distances_km() / EARTH_RADIUS_KM
    bearing = (np.arange(32) + 0.5) / 32 * np.pi
    table = np.empty((BINS, len(SCALES_KM), len(radii_km)), dtype=np.float32)
    for column, scale_km in enumerate(SCALES_KM):
        step = _radial_quantiles(scale_km, count=64) / EARTH_RADIUS_KM
        # haversine of the third side of the spherical triangle: centre, point, place
        d, r = centre_distance[:, None, None], step[:, None]
        haversine = np.sin((d - r) / 2) ** 2 + np.sin(d) * np.sin(r) * np.sin(bearing / 2) ** 2
        for index, radius_km in enumerate(radii_km):
            within = np.sin(min(radius_km / EARTH_RADIUS_KM, np.pi) / 2) ** 2
            table[:, column, index] = np.count_nonzero(haversine <= within, axis=(1, 2)) / haversine[0].size
    return table


def _radial_quantiles(scale_km: float, count: int) -> FloatArray:
    """Distances in km from the centre, at the midpoints of `count` parts of equal kernel mass."""
    grid = np.concatenate([[0.0], np.geomspace(scale_km / 1e3, HALF_CIRCUMFERENCE_KM, 4000)])
    ring = np.exp(-grid / scale_km) * np.sin(grid / EARTH_RADIUS_KM)
    mass = np.concatenate([[0.0], np.cumsum((ring[1:] + ring[:-1]) / 2 * np.diff(grid))])
    return np.interp((np.arange(count) + 0.5) / count, mass / mass[-1], grid)
