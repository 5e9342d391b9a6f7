"""Embeddings of photos: retrieval vectors for the index, and scores of places for Stage 2.

Shapes: n photos, m places, d width of the retrieval vectors or of the joint space.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from dualgeo_core.model.fusion import DualViewModel, ViewEmbeddings
from dualgeo_core.model.retrieval_head import RetrievalViews
from dualgeo_core.settings import Representation
from dualgeo_core.views.store import ViewBatch, Views

BATCH_SIZE = 512


class PhotoEmbeddings(NamedTuple):
    """Two vectors of each photo: `search_nd` for the index, `places_nd` for `gps_scores` (None without a model)."""

    search_nd: NDArray[np.float32]
    places_nd: NDArray[np.float32] | None


def embed(
    *,
    model: DualViewModel | None,
    views: Views,
    variant: Representation,
    rows: NDArray[np.int64] | None = None,
    device: str | torch.device = "cpu",
) -> PhotoEmbeddings:
    """The vectors of `rows` (default: all) in one pass of the model.

    The search vectors have unit length; compare them by inner product. Those of the variant `encoder` are the frozen
    encoder's normalized pooled vectors and need no model. The vectors for places are each view divided by its
    temperature, then averaged over views.
    """
    search, places = [], []
    for batch in _batches(views, rows):
        if variant == "encoder":
            search.append(functional.normalize(batch.pooled_bd.to(device).float(), dim=-1))
            continue
        assert model is not None, f"{variant} needs a trained model"
        seen = retrieval_views(model, batch, device)
        search.append(model.retrieval_head(seen))
        trained = [(view, getattr(seen, view)) for view in ViewEmbeddings._fields]
        scaled = [model.log_scale[view].exp() * x_bd for view, x_bd in trained if x_bd is not None]
        places.append(torch.stack(scaled).mean(dim=0))
    return PhotoEmbeddings(_stack(search), _stack(places) if places else None)


@torch.inference_mode()
def gps_scores(
    model: DualViewModel, embeddings_nd: NDArray[np.float32], latitude: ArrayLike, longitude: ArrayLike
) -> NDArray[np.float32]:
    """Logits (n, m) of each photo against places; the contrastive losses train their softmax over places.

    Places of shape (m,) are scored for every photo. Places of shape (n, m) are scored per photo.
    """
    device = next(model.parameters()).device
    degrees = torch.stack([torch.tensor(np.asarray(x, dtype=np.float64)) for x in (latitude, longitude)], dim=-1)
    gps = model.gps_encoder(degrees.to(device).flatten(0, -2)).unflatten(0, degrees.shape[:-1])
    photos_nd = torch.from_numpy(embeddings_nd).to(device)
    equation = "nd,md->nm" if gps.ndim == 2 else "nd,nmd->nm"
    return np.asarray(torch.einsum(equation, photos_nd, gps).cpu().numpy())


@torch.no_grad()
def retrieval_views(model: DualViewModel, batch: ViewBatch, device: str | torch.device) -> RetrievalViews:
    """The trained views of one batch and the frozen encoder's pooled vectors, on `device`."""
    pooled_be = batch.pooled_bd.to(device).float()
    trained: ViewEmbeddings = model(pooled_be, batch.tokens_btd.to(device).float(), batch.label_maps_bhw.to(device))
    return RetrievalViews(**trained._asdict(), encoder=pooled_be)


def _batches(views: Views, rows: NDArray[np.int64] | None) -> Iterator[ViewBatch]:
    rows = np.arange(len(views.frame)) if rows is None else rows
    for start in range(0, len(rows), BATCH_SIZE):
        yield views.batch(rows[start : start + BATCH_SIZE])


def _stack(vectors: list[Tensor]) -> NDArray[np.float32]:
    return np.concatenate([x.detach().float().cpu().numpy() for x in vectors])
