"""Why a photo has no position, in words: which evidence is missing."""

import pandas as pd

from dualgeo_core.answering.spread import ShownCluster, shown_clusters

EQUAL_SHARE = 0.75  # a cluster with this share of the heaviest one's weight is as heavy


def missing_evidence(
    status: str, candidates: pd.DataFrame, *, cluster_radius_km: float, unanswered: bool, candidate: str
) -> str:
    """One line on the evidence that a photo without position lacks.

    `candidates` are the photo's most similar ones, and `candidate` says what one of them is. `unanswered` says that a
    multimodal model was asked and gave no usable answer.
    """
    reason = _from_candidates(status, candidates, cluster_radius_km=cluster_radius_km, candidate=candidate)
    return f"{reason}; no answer from the multimodal model" if unanswered else reason


def _from_candidates(status: str, candidates: pd.DataFrame, *, cluster_radius_km: float, candidate: str) -> str:
    if status == "unlike_gallery":
        return "the photo is unlike all photos that the model was calibrated on"
    if candidates.empty:
        return f"no similar {candidate}"
    clusters = shown_clusters(candidates, radius_km=cluster_radius_km)
    if not clusters:
        return f"the similar {candidate}s are far from each other"
    equal = [cluster for cluster in clusters if cluster.mass >= EQUAL_SHARE * clusters[0].mass]
    if len(equal) > 1:
        return f"{_count(len(equal))} clusters of equal weight ({_places(equal)})"
    return f"only {clusters[0].mass:.0%} of the evidence is near {clusters[0].place}"


def _count(clusters: int) -> str:
    return {2: "two", 3: "three", 4: "four"}.get(clusters, str(clusters))


def _places(clusters: list[ShownCluster]) -> str:
    return "; ".join(cluster.place for cluster in clusters)
