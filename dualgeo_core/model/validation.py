"""Validation by retrieval: photos of held-out photographers are searched among everybody else's."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualgeo_core.errors import InputError
from dualgeo_core.geo import haversine_km
from dualgeo_core.model.retrieval_head import RetrievalHead, RetrievalViews, weight_grid
from dualgeo_core.settings import TrainingSettings

RADII_KM = (1, 25, 200, 750, 2500)
QUERIES, GALLERY = 2_000, 50_000  # as many photos as settle which epoch was best


@dataclass(frozen=True)
class Split:
    """Rows of a gallery: to train on, held out to search with, and those of the former that are searched."""

    training: NDArray[np.int64]
    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]


def split_by_photographer(frame: pd.DataFrame, settings: TrainingSettings) -> Split:
    """A seeded share of photographers held out; photos of unknown photographers are trained on.

    Raises InputError where either side would be empty.
    """
    held_out = frame["author"].map(lambda name: _held_out(name, settings)).to_numpy(dtype=bool)
    training, queries = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if len(training) < 2 or len(queries) == 0:
        raise InputError(
            f"holding out {settings.validation_share:g} of the gallery's {frame['author'].nunique()} photographers "
            f"leaves {len(training)} photos to train on and {len(queries)} to validate with: "
            "change training.validation_share or training.validation_seed, or ingest photos of more photographers"
        )
    random = np.random.default_rng(settings.validation_seed)
    return Split(
        training=training,
        queries=np.sort(random.permutation(queries)[:QUERIES]),
        gallery=np.sort(random.permutation(training)[:GALLERY]),
    )


def _held_out(author: str | None, settings: TrainingSettings) -> bool:
    """Salted, so that it does not repeat the hash that split queries from gallery."""
    if not isinstance(author, str):
        return False
    digest = hashlib.sha256(f"validation {settings.validation_seed} {author}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < settings.validation_share * 2**64


def nearest_km(similarity_qg: Tensor, queries: pd.DataFrame, gallery: pd.DataFrame) -> NDArray[np.float64]:
    """The distance of each query to its most similar gallery photo."""
    best = similarity_qg.argmax(dim=1).cpu().numpy()
    answer = gallery.iloc[best]
    return haversine_km(queries["latitude"], queries["longitude"], answer["latitude"], answer["longitude"])


def recall_at_1(distances_km: NDArray[np.float64]) -> dict[str, float]:
    """Share of queries whose first answer lies within 1, 25, 200, 750 and 2500 km, and their mean."""
    recall = {f"recall_{radius}km": float((distances_km <= radius).mean()) for radius in RADII_KM}
    return {**recall, "recall_mean": float(np.mean(list(recall.values())))}


@torch.no_grad()
def fit_retrieval_head(
    *,
    head: RetrievalHead,
    gallery_views: RetrievalViews,
    query_views: RetrievalViews,
    gallery: pd.DataFrame,
    queries: pd.DataFrame,
    whitening: float,
) -> dict[str, float]:
    """Fits maps on the gallery and weights on held-out photographers; returns the recall of the chosen weights.

    Few photographers are held out, so the best weights of a grid are partly luck: taken is the mean of all that are
    within one standard error of the best.
    """
    head.fit_maps(gallery_views, whitening)
    similarities = [
        None
        if query_nd is None or gallery_nd is None
        else head.mapped(view, query_nd) @ head.mapped(view, gallery_nd).T
        for view, query_nd, gallery_nd in zip(RetrievalViews._fields, query_views, gallery_views, strict=True)
    ]

    def recall(weights: NDArray[np.float32]) -> dict[str, float]:
        weighted = [float(w) * s for w, s in zip(weights, similarities, strict=True) if s is not None and w > 0]
        return recall_at_1(nearest_km(sum(weighted[1:], weighted[0]), queries, gallery))

    present = (similarities[0] is not None, similarities[1] is not None, similarities[2] is not None)
    grid = weight_grid(present)
    means = np.array([recall(weights)["recall_mean"] for weights in grid])
    best = means.max()
    chosen = grid[means >= best - np.sqrt(best * (1 - best) / len(queries))].mean(axis=0)
    head.weights.copy_(torch.from_numpy(chosen))
    return recall(chosen)
