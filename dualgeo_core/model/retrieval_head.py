"""The retrieval vector: the trained views and the frozen encoder, each whitened and weighted.

The inner product of two vectors is the weighted mean of the views' cosines, so one index searches all views.
Shapes: n photos, m relit photos, d joint width, e encoder width.
"""

import functools
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


class RetrievalViews(NamedTuple):
    """Input of the retrieval head: three of (n, d) and one of (n, e); None for a view that the variant does not use."""

    image: Tensor | None
    mask: Tensor | None
    joint: Tensor | None
    encoder: Tensor | None


VIEWS = RetrievalViews._fields
ROWS_AT_ONCE = 8192  # vectors that are in memory in float64
SHIFT_FLOOR = 0.1  # share of the mean variance of a photo's shift that every direction gets


class RetrievalHead(nn.Module):
    """Whitening maps and weights of the views, fitted once after training.

    Before the fit, the trained views have equal weights and are not whitened.
    """

    weights: Tensor

    def __init__(self, *, width: int, encoder_width: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([float(view != "encoder") for view in VIEWS]) / (len(VIEWS) - 1))
        for view in VIEWS:
            width_in = encoder_width if view == "encoder" else width
            self.register_buffer(f"{view}_mean", torch.zeros(width_in))
            self.register_buffer(f"{view}_map", torch.eye(width_in, min(width, width_in)))

    def forward(self, views: RetrievalViews) -> Tensor:
        """Unit vectors (n, sum of the mapped widths of the views with a weight above zero)."""
        parts = [
            weight.sqrt() * self.mapped(view, vectors)
            for view, vectors, weight in zip(VIEWS, views, self.weights, strict=True)
            if vectors is not None and weight > 0
        ]
        return functional.normalize(torch.cat(parts, dim=-1), dim=-1)

    def mapped(self, view: str, vectors_nd: Tensor) -> Tensor:
        """Whitened unit vectors of one view, before weighting."""
        mean, linear = self.get_buffer(f"{view}_mean"), self.get_buffer(f"{view}_map")
        return functional.normalize((functional.normalize(vectors_nd.float(), dim=-1) - mean) @ linear, dim=-1)

    @torch.no_grad()
    def fit_maps(self, views: RetrievalViews, whitening: float, shifts: RetrievalViews | None = None) -> None:
        """Sets each view's map to its principal axes, each divided by its standard deviation to the power `whitening`.

        `shifts` (m, d) are the differences between unit vectors of relit and of clean photos. Directions in which light
        moves a photo are shrunk before the axes are computed. The encoder's view keeps as many axes as the trained
        views have, which limits the size of the index.
        """
        for view, vectors_nd in zip(VIEWS, views, strict=True):
            if vectors_nd is not None:
                shift_md = getattr(shifts, view, None)
                mean, linear = _principal_axes(functional.normalize(vectors_nd.float(), dim=-1), whitening, shift_md)
                target = self.get_buffer(f"{view}_map")
                self.get_buffer(f"{view}_mean").copy_(mean)
                target.copy_(linear[:, : target.shape[1]])


def _principal_axes(vectors_nd: Tensor, whitening: float, shift_md: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean (d,) and axes (d, d) by descending variance; variances have a floor, so that noise is not amplified."""
    # Without whitening the cosines must not change, so the vectors are not centred either.
    mean = vectors_nd.mean(dim=0) if whitening > 0 else torch.zeros_like(vectors_nd[0])
    covariance_dd = _second_moment(vectors_nd - mean)
    if shift_md is not None:
        steady_dd = _against_shifts(shift_md)
    else:
        steady_dd = torch.eye(len(covariance_dd), dtype=torch.float64, device=covariance_dd.device)
    covariance_dd = steady_dd.T @ covariance_dd @ steady_dd
    variances, axes = torch.linalg.eigh(covariance_dd)
    variances, axes = variances.flip(0), axes.flip(1)
    floor = 1e-3 * variances[0]
    return mean, (steady_dd @ axes * variances.clamp(min=floor) ** (-whitening / 2)).float()


def _against_shifts(shift_md: Tensor) -> Tensor:
    """A map (d, d) after which shifts of light are about as large in every direction (within-class whitening)."""
    variances, axes = torch.linalg.eigh(_second_moment(shift_md))
    floor = SHIFT_FLOOR * variances.mean() + torch.finfo().tiny  # if light moves nothing, all directions are alike
    return axes * (variances.clamp(min=0) + floor) ** -0.5


def _second_moment(vectors_nd: Tensor) -> Tensor:
    """The mean of the vectors' outer products (d, d), in float64."""
    parts = (some.double() for some in vectors_nd.split(ROWS_AT_ONCE))
    return functools.reduce(torch.add, (some.T @ some for some in parts)) / len(vectors_nd)


def weight_grid(present: Sequence[bool], steps: int = 4) -> NDArray[np.float32]:
    """All weights (grid, views) in steps of 1/`steps` that sum to one; views that are not `present` have weight 0."""
    shares = [
        share
        for share in product(range(steps + 1), repeat=len(present))
        if sum(share) == steps and all(is_present or not part for part, is_present in zip(share, present, strict=True))
    ]
    return np.array(shares, dtype=np.float32) / np.float32(steps)
