"""Validation by retrieval: photos by held-out photographers are searched among photos by all others."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualgeo_core.base.geo import THRESHOLDS_KM, haversine_km
from dualgeo_core.model.retrieval_head import RetrievalHead, RetrievalViews, weight_grid


def nearest_km(similarity_qg: Tensor, queries: pd.DataFrame, gallery: pd.DataFrame) -> NDArray[np.float64]:
    """Distance in km (q,) of each query to its most similar gallery photo; `similarity_qg` is (queries, gallery)."""
    best = similarity_qg.argmax(dim=1).cpu().numpy()
    answer = gallery.iloc[best]
    return haversine_km(queries["latitude"], queries["longitude"], answer["latitude"], answer["longitude"])


def recall_at_1(distances_km: NDArray[np.float64]) -> dict[str, float]:
    """Share of queries whose top result is within 1, 25, 200, 750 and 2500 km, and the mean of these shares."""
    recall = {f"recall_{radius}km": float((distances_km <= radius).mean()) for radius in THRESHOLDS_KM}
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
    """Recall of the retrieval head after fitting: maps on the gallery, weights on held-out photographers.

    Few photographers are held out, so the best weights of the grid are partly luck. The head therefore gets the mean of
    all weights whose recall is within one standard error of the best.
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
