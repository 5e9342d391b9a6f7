"""Validation by retrieval: photos by held-out photographers are searched among photos by all others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dualgeo_core.base.geo import THRESHOLDS_KM, haversine_km
from dualgeo_core.model.retrieval_head import VIEWS, RetrievalHead, RetrievalViews, weight_grid


def nearest_km(similarity_qg: Tensor, queries: pd.DataFrame, gallery: pd.DataFrame) -> NDArray[np.float64]:
    """Distance in km (q,) of each query to its most similar gallery photo; `similarity_qg` is (queries, gallery)."""
    best = similarity_qg.argmax(dim=1).cpu().numpy()
    answer = gallery.iloc[best]
    return haversine_km(queries["latitude"], queries["longitude"], answer["latitude"], answer["longitude"])


def recall_at_1(distances_km: NDArray[np.float64]) -> dict[str, float]:
    """Share of queries whose top result is within 1, 25, 200, 750 and 2500 km, and the mean of these shares."""
    recall = {f"recall_{radius}km": float((distances_km <= radius).mean()) for radius in THRESHOLDS_KM}
    return {**recall, "recall_mean": float(np.mean(list(recall.values())))}


class Light(NamedTuple):
    """Views of the held-out photos, clean and relit, and how relighting moves the encoder's unit vectors (m, e)."""

    clean: RetrievalViews
    relit: RetrievalViews | None = None
    encoder_shift: Tensor | None = None

    def conditions(self) -> list[RetrievalViews]:
        """The queries of each condition."""
        return [self.clean] if self.relit is None else [self.clean, self.relit]

    def shifts(self) -> RetrievalViews | None:
        """The shift of each view. Trained views have learned to ignore it on the photos that they were trained with."""
        if self.relit is None:
            return None
        moved = (
            None if clean is None or relit is None else shift(clean, relit)
            for clean, relit in zip(self.clean, self.relit, strict=True)
        )
        return RetrievalViews(*moved)._replace(encoder=self.encoder_shift)


def shift(clean_md: Tensor, relit_md: Tensor) -> Tensor:
    """How relighting moves unit vectors, (m, d)."""
    return functional.normalize(relit_md.float(), dim=-1) - functional.normalize(clean_md.float(), dim=-1)


@torch.no_grad()
def fit_retrieval_head(
    *,
    head: RetrievalHead,
    gallery_views: RetrievalViews,
    held_out: Light,
    gallery: pd.DataFrame,
    queries: pd.DataFrame,
    whitening: float,
) -> dict[str, float]:
    """Recall of the retrieval head after fitting: maps on the gallery, weights on held-out photographers.

    The recall is the mean over clean and relit queries. Few photographers are held out, so the best weights of the grid
    are partly luck. The head therefore gets the mean of all weights whose recall is within one standard error of the
    best.
    """
    head.fit_maps(gallery_views, whitening, held_out.shifts())
    similarities = [_similarities(head, views, gallery_views) for views in held_out.conditions()]

    def recall(weights: NDArray[np.float32]) -> dict[str, float]:
        return mean_recall(
            [recall_at_1(nearest_km(_weighted(views, weights), queries, gallery)) for views in similarities]
        )

    grid = weight_grid([similarity is not None for similarity in similarities[0]])
    means = np.array([recall(weights)["recall_mean"] for weights in grid])
    best = means.max()
    chosen = grid[means >= best - np.sqrt(best * (1 - best) / len(queries))].mean(axis=0)
    head.weights.copy_(torch.from_numpy(chosen))
    return recall(chosen)


def mean_recall(conditions: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each recall over conditions of light."""
    return {name: float(np.mean([recall[name] for recall in conditions])) for name in conditions[0]}


def _weighted(similarities: Sequence[Tensor | None], weights: NDArray[np.float32]) -> Tensor:
    """The weighted sum of the views' cosines."""
    present = zip(weights, similarities, strict=True)
    weighted = [float(weight) * view for weight, view in present if view is not None and weight > 0]
    return sum(weighted[1:], weighted[0])


def _similarities(head: RetrievalHead, queries: RetrievalViews, gallery: RetrievalViews) -> list[Tensor | None]:
    """Cosines (queries, gallery) of each view."""
    return [
        None
        if query_nd is None or gallery_nd is None
        else head.mapped(view, query_nd) @ head.mapped(view, gallery_nd).T
        for view, query_nd, gallery_nd in zip(VIEWS, queries, gallery, strict=True)
    ]
