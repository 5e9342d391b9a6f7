"""Embeddings of photos: retrieval vectors for the index, and scores of places for Stage 2.

Shapes: n photos, m places, d width of the retrieval vectors or of the joint space.
"""

from collections.abc import Iterator

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


def embed(
    *,
    model: DualViewModel | None,
    views: Views,
    variant: Representation,
    rows: NDArray[np.int64] | None = None,
    device: str | torch.device = "cpu",
) -> NDArray[np.float32]:
    """Retrieval vectors (n, d) of `rows` (default: all), of unit length; compare them by inner product.

    The variant `encoder` returns the frozen encoder's normalized pooled vectors and needs no model.
    """
    vectors = []
    for batch in _batches(views, rows):
        pooled_be = batch.pooled_bd.to(device).float()
        if variant == "encoder":
            vectors.append(functional.normalize(pooled_be, dim=-1))
        else:
            assert model is not None, f"{variant} needs a trained model"
            vectors.append(model.retrieval_head(retrieval_views(model, batch, device)))
    return _stack(vectors)


def embed_for_places(
    *,
    model: DualViewModel,
    views: Views,
    rows: NDArray[np.int64] | None = None,
    device: str | torch.device = "cpu",
) -> NDArray[np.float32]:
    """Photo vectors (n, d) for `gps_scores`: each view divided by its temperature, then averaged over views."""
    vectors = []
    for batch in _batches(views, rows):
        seen = view_embeddings(model, batch, device)
        scaled = [model.log_scale[view].exp() * x for view, x in seen._asdict().items() if x is not None]
        vectors.append(torch.stack(scaled).mean(dim=0))
    return _stack(vectors)


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
def view_embeddings(model: DualViewModel, batch: ViewBatch, device: str | torch.device) -> ViewEmbeddings:
    """The trained views of one batch, on `device`."""
    embeddings: ViewEmbeddings = model(
        batch.pooled_bd.to(device).float(), batch.tokens_btd.to(device).float(), batch.label_maps_bhw.to(device)
    )
    return embeddings


def retrieval_views(model: DualViewModel, batch: ViewBatch, device: str | torch.device) -> RetrievalViews:
    """The trained views and the frozen encoder's pooled vectors, as input of the retrieval head."""
    trained = view_embeddings(model, batch, device)
    return RetrievalViews(**trained._asdict(), encoder=batch.pooled_bd.to(device).float())


def _batches(views: Views, rows: NDArray[np.int64] | None) -> Iterator[ViewBatch]:
    rows = np.arange(len(views.frame)) if rows is None else rows
    for start in range(0, len(rows), BATCH_SIZE):
        yield views.batch(rows[start : start + BATCH_SIZE])


def _stack(vectors: list[Tensor]) -> NDArray[np.float32]:
    return np.concatenate([x.detach().float().cpu().numpy() for x in vectors])
