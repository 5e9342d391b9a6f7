"""The retrieval head: steady against shifts of light, weights by held-out photographers, vectors apart from batches."""

import numpy as np
import pandas as pd
import pytest
import torch

from dualgeo_core.model import retrieval_head, validation
from dualgeo_core.model.retrieval_head import VIEWS, RetrievalHead, RetrievalViews, weight_grid
from dualgeo_core.model.validation import Light, fit_retrieval_head, shift

WIDTH, ENCODER_WIDTH, PLACES, QUERIES = 16, 24, 60, 30


def _frame(count: int) -> pd.DataFrame:
    """Places 5 degrees apart, so that only the right one is within 25 km."""
    return pd.DataFrame({"latitude": np.arange(count) // 12 * 10.0, "longitude": np.arange(count) % 12 * 20.0})


def _photos(places_nd: torch.Tensor, *, noise: float, light: float, seed: int) -> torch.Tensor:
    """Photos of places; light moves them along the first two axes only."""
    random = torch.Generator().manual_seed(seed)
    moved = places_nd + noise * torch.randn(places_nd.shape, generator=random)
    moved[:, :2] += light * torch.randn(len(moved), 2, generator=random)
    return moved


def _views(*, light: tuple[float, float], seed: int, count: int) -> RetrievalViews:
    """Image and encoder move with the light by `light[0]`, the mask by `light[1]`; there is no joint view."""
    random = torch.Generator().manual_seed(0)
    places = torch.randn(PLACES, WIDTH, generator=random), torch.randn(PLACES, ENCODER_WIDTH, generator=random)
    image, mask = (_photos(places[0][:count], noise=0.5, light=by, seed=seed) for by in light)
    return RetrievalViews(image, mask, None, _photos(places[1][:count], noise=0.5, light=light[0], seed=seed + 1))


def _fit(relit_light: tuple[float, float], *, aware: bool) -> tuple[RetrievalHead, dict[str, float]]:
    """A fitted head, and the recall of relit queries; it is fitted on relit queries only if it is `aware` of light."""
    gallery = _views(light=(0, 0), seed=1, count=PLACES)
    clean, relit = _views(light=(0, 0), seed=2, count=QUERIES), _views(light=relit_light, seed=2, count=QUERIES)
    held_out = Light(clean, relit, encoder_shift=shift(clean.encoder, relit.encoder)) if aware else Light(clean)
    head = RetrievalHead(width=WIDTH, encoder_width=ENCODER_WIDTH)
    fit_retrieval_head(
        head=head,
        gallery_views=gallery,
        held_out=held_out,
        gallery=_frame(PLACES),
        queries=_frame(QUERIES),
        whitening=0.5,
    )
    found = (head(_views(light=relit_light, seed=5, count=QUERIES)) @ head(gallery).T).argmax(dim=1)
    return head, float((found == torch.arange(QUERIES)).float().mean())


def test_directions_in_which_light_moves_photos_count_less() -> None:
    light = (12.0, 12.0)
    assert _fit(light, aware=True)[1] > _fit(light, aware=False)[1] + 0.2


def test_a_view_that_ignores_light_gets_more_weight() -> None:
    heads = (_fit((12.0, 0.0), aware=aware)[0] for aware in (False, True))
    unaware, aware = (dict(zip(VIEWS, head.weights.tolist(), strict=True)) for head in heads)
    assert aware["mask"] > unaware["mask"]
    assert aware["joint"] == 0, "there is no such view"
    assert sum(aware.values()) == pytest.approx(1)


def test_the_fit_does_not_depend_on_how_much_is_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, recall = _fit((12.0, 0.0), aware=True)
    monkeypatch.setattr(validation, "QUERIES_AT_ONCE", 7)
    monkeypatch.setattr(retrieval_head, "ROWS_AT_ONCE", 13)
    parts, recall_of_parts = _fit((12.0, 0.0), aware=True)
    assert torch.equal(parts.weights, whole.weights)
    assert recall_of_parts == recall


def test_a_photo_has_one_vector_whatever_its_batch() -> None:
    head, _ = _fit((3.0, 0.0), aware=True)
    photos = _views(light=(3.0, 0.0), seed=9, count=QUERIES)
    alone = RetrievalViews(*(None if view is None else view[4:5] for view in photos))
    assert torch.allclose(head(photos)[4:5], head(alone), atol=1e-6)
    assert torch.allclose(head(photos).norm(dim=1), torch.ones(QUERIES), atol=1e-5)


def test_weights_of_views_that_are_not_there_are_zero() -> None:
    grid = weight_grid([True, True, False, True])
    assert len(grid) == 15
    assert (grid[:, 2] == 0).all()
    assert grid.sum(axis=1) == pytest.approx(1)
