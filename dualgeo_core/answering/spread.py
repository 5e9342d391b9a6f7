"""What a map draws of an answer: the posterior as kernels, and the clusters of candidates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.geo import FloatArray, coordinates
from dualgeo_core.refine.kernels import SCALES_KM
from dualgeo_core.refine.mixtures import Mixture

LEAST_WEIGHT = 1e-4  # kernels of a smaller weight are not drawn


@dataclass(frozen=True)
class ShownCluster:
    """Candidates close to each other: their centre, radius in km, share of the candidates' weight, and place."""

    latitude: float
    longitude: float
    radius_km: float
    mass: float
    place: str


@dataclass(frozen=True)
class Spread:
    """A posterior to be drawn at any scale: points in degrees (m,), kernel weights (m, scales), and a uniform part."""

    latitude: FloatArray
    longitude: FloatArray
    weights: NDArray[np.float32]
    background: float
    clusters: tuple[ShownCluster, ...]

    def as_json(self) -> dict[str, Any]:
        """The form that the map's script reads."""
        return {
            "scales_km": list(SCALES_KM),
            "points": [
                [round(float(latitude), 5), round(float(longitude), 5), *np.round(weights, 5).tolist()]
                for latitude, longitude, weights in zip(self.latitude, self.longitude, self.weights, strict=True)
            ],
            "background": round(self.background, 6),
            "clusters": [vars(cluster) for cluster in self.clusters],
        }


def spread_of(mixture: Mixture, candidates: pd.DataFrame, *, cluster_radius_km: float) -> Spread | None:
    """What a map draws of one photo's mixture and its candidates; None if the photo has no evidence."""
    weights = np.where(mixture.weights < LEAST_WEIGHT, 0, mixture.weights)
    kept = weights.any(axis=1)
    if not kept.any():
        return None
    latitude, longitude = coordinates(mixture.points_xyz[kept])
    total = float(weights.sum()) + mixture.background
    return Spread(
        latitude=latitude,
        longitude=longitude,
        weights=(weights[kept] / total).astype(np.float32),
        background=mixture.background / total,
        clusters=tuple(shown_clusters(candidates, radius_km=cluster_radius_km)),
    )


def shown_clusters(candidates: pd.DataFrame, *, radius_km: float) -> list[ShownCluster]:
    """The clusters of one photo's most similar gallery photos, by descending mass."""
    from dualgeo_core.refine.clusters import clusters_of

    if candidates.empty:
        return []
    columns = (candidates[name].to_numpy(np.float64) for name in ("latitude", "longitude", "similarity"))
    found = clusters_of(*columns, radius_km=radius_km)
    names = ("latitude", "longitude", "radius_km", "mass", "place")
    return [ShownCluster(**{name: getattr(cluster, name) for name in names}) for cluster in found]
