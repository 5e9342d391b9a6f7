"""Clusters of candidates on the sphere: HDBSCAN, and the paper's DBSCAN for comparison."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from dualgeo_core.base.geo import EARTH_RADIUS_KM, FloatArray, haversine_km, spherical_mean
from dualgeo_core.refine.kernels import RANK_DECAY
from dualgeo_core.refine.places import place_names

Labels = NDArray[np.int64]
REGION_STEPS = 10


@dataclass(frozen=True)
class Cluster:
    """Candidates close to each other: `members` are their columns, `mass` their share of the candidates' weight."""

    latitude: float
    longitude: float
    radius_km: float
    mass: float
    members: NDArray[np.int64]
    place: str


def hdbscan_labels(latitude: FloatArray, longitude: FloatArray, *, radius_km: float) -> Labels:
    """Cluster labels (k,), -1 = no cluster; no split is finer than `radius_km` (Campello et al. 2013, on haversine).

    HDBSCAN alone joins sparse points of different continents. Each region is therefore clustered separately; a region
    is the points linked by steps of at most REGION_STEPS * `radius_km`.
    """
    labels = np.full(len(latitude), -1, dtype=np.int64)
    distance = haversine_km(latitude[:, None], longitude[:, None], latitude, longitude)
    regions, region_of = connected_components(distance <= REGION_STEPS * radius_km, directed=False)
    for region in range(regions):
        members = np.flatnonzero(region_of == region)
        if len(members) > 1:
            found = _hdbscan(latitude[members], longitude[members], radius_km=radius_km)
            labels[members] = np.where(found >= 0, found + labels.max() + 1, -1)
    return labels


def dbscan_labels(latitude: FloatArray, longitude: FloatArray, *, radius_km: float) -> Labels:
    """Cluster labels (k,), -1 = no cluster; points within `radius_km` are linked (arXiv 2604.25533, re-ranking)."""
    from sklearn.cluster import DBSCAN

    model = DBSCAN(eps=radius_km / EARTH_RADIUS_KM, min_samples=2, metric="haversine", algorithm="ball_tree")
    return model.fit_predict(np.radians(np.column_stack([latitude, longitude]))).astype(np.int64)


def candidate_weights(similarity: FloatArray) -> FloatArray:
    """Weights (k,) that sum to 1: exp(-gap to the best similarity / mean gap), or rank^-0.3 without similarities."""
    known = len(similarity) > 0 and bool(np.isfinite(similarity).all())
    gap = similarity.max() - similarity if known else np.zeros(len(similarity))
    weights = np.exp(-gap / gap.mean()) if gap.any() else np.arange(1, len(similarity) + 1) ** -RANK_DECAY
    return weights / weights.sum()


def labels_by_mass(latitude: FloatArray, longitude: FloatArray, similarity: FloatArray, *, radius_km: float) -> Labels:
    """HDBSCAN cluster labels (k,), 0 = heaviest; -1 = no cluster."""
    labels = hdbscan_labels(latitude, longitude, radius_km=radius_km)
    if labels.max(initial=-1) < 0:
        return labels
    clustered = labels >= 0
    mass = np.bincount(labels[clustered], weights=candidate_weights(similarity)[clustered])
    place = np.empty(len(mass), dtype=np.int64)
    place[np.argsort(-mass, kind="stable")] = np.arange(len(mass))
    return np.where(clustered, place[labels], -1)


def clusters_of(
    latitude: FloatArray, longitude: FloatArray, similarity: FloatArray, *, radius_km: float
) -> list[Cluster]:
    """The HDBSCAN clusters of one query's candidates (k,), by descending mass."""
    labels = labels_by_mass(latitude, longitude, similarity, radius_km=radius_km)
    weights = candidate_weights(similarity)
    members = [np.flatnonzero(labels == label) for label in range(labels.max(initial=-1) + 1)]
    centres = [spherical_mean(latitude[m], longitude[m], weights[m]) for m in members]
    places = place_names([centre[0] for centre in centres], [centre[1] for centre in centres])
    return [
        Cluster(
            latitude=centre[0],
            longitude=centre[1],
            radius_km=float(haversine_km(*centre, latitude[m], longitude[m]).max()),
            mass=float(weights[m].sum()),
            members=m,
            place=place,
        )
        for m, centre, place in zip(members, centres, places, strict=True)
    ]


def _hdbscan(latitude: FloatArray, longitude: FloatArray, *, radius_km: float) -> Labels:
    import hdbscan  # a second of imports, which an answer without clusters does not need

    model = hdbscan.HDBSCAN(
        min_cluster_size=2,
        min_samples=1,
        metric="haversine",
        allow_single_cluster=True,
        cluster_selection_epsilon=radius_km / EARTH_RADIUS_KM,
    )
    return model.fit_predict(np.radians(np.column_stack([latitude, longitude]))).astype(np.int64)
