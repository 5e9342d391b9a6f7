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

QUERIES_AT_ONCE = 64  # their cosines with 50,000 photos take 13 MB per view


def nearest_km(
    queries_qd: Tensor, gallery_gd: Tensor, *, queries: pd.DataFrame, gallery: pd.DataFrame
) -> NDArray[np.float64]:
    """Distance in km (q,) of each query to the gallery photo with the largest inner product of vectors."""
    rows = [(some_qd @ gallery_gd.T).argmax(dim=1) for some_qd in queries_qd.split(QUERIES_AT_ONCE)]
    return _distance_km(torch.cat(rows), queries, gallery)


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
    mapped = _mapped(head, gallery_views)

    def recalls(weights_wv: NDArray[np.float32]) -> list[dict[str, float]]:
        """The recall with each of the weights."""
        nearest = [_nearest_rows(_mapped(head, views), mapped, weights_wv) for views in held_out.conditions()]
        return [
            mean_recall([recall_at_1(_distance_km(rows_q, queries, gallery)) for rows_q in conditions])
            for conditions in zip(*nearest, strict=True)
        ]

    grid = weight_grid([view is not None for view in mapped])
    means = np.array([recall["recall_mean"] for recall in recalls(grid)])
    best = means.max()
    chosen = grid[means >= best - np.sqrt(best * (1 - best) / len(queries))].mean(axis=0)
    head.weights.copy_(torch.from_numpy(chosen))
    return recalls(chosen[None])[0]


def mean_recall(conditions: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each recall over conditions of light."""
    return {name: float(np.mean([recall[name] for recall in conditions])) for name in conditions[0]}


def _mapped(head: RetrievalHead, views: RetrievalViews) -> RetrievalViews:
    """The views as the retrieval head maps them."""
    pairs = zip(VIEWS, views, strict=True)
    return RetrievalViews(
        *(None if vectors_nd is None else head.mapped(view, vectors_nd) for view, vectors_nd in pairs)
    )


def _nearest_rows(queries: RetrievalViews, gallery: RetrievalViews, weights_wv: NDArray[np.float32]) -> Tensor:
    """The gallery row (w, q) that is most similar to each query, with each of the weights."""
    present = [view is not None for view in queries]
    gallery_views = [gallery_nd for gallery_nd in gallery if gallery_nd is not None]
    blocks = zip(*(query_nd.split(QUERIES_AT_ONCE) for query_nd in queries if query_nd is not None), strict=True)
    found = []
    for block in blocks:
        cosines = [query_nd @ gallery_nd.T for query_nd, gallery_nd in zip(block, gallery_views, strict=True)]
        found.append(torch.stack([_weighted(cosines, weights[present]).argmax(dim=1) for weights in weights_wv]))
    return torch.cat(found, dim=1)


def _weighted(cosines: Sequence[Tensor], weights: NDArray[np.float32]) -> Tensor:
    """The weighted sum of the views' cosines."""
    weighted = [float(weight) * view for weight, view in zip(weights, cosines, strict=True) if weight > 0]
    return sum(weighted[1:], weighted[0])


def _distance_km(rows_q: Tensor, queries: pd.DataFrame, gallery: pd.DataFrame) -> NDArray[np.float64]:
    """Distance in km (q,) of each query to the gallery photo in its row."""
    answer = gallery.iloc[rows_q.cpu().numpy()]
    return haversine_km(queries["latitude"], queries["longitude"], answer["latitude"], answer["longitude"])
