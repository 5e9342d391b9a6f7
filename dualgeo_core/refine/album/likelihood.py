"""Maximum likelihood of the true places under the album's mixture: the weights of one album head."""

import numpy as np
import torch
from numpy.typing import NDArray

from dualgeo_core.base.geo import EARTH_RADIUS_KM, FloatArray
from dualgeo_core.refine.album.albums import Rows
from dualgeo_core.refine.album.heads import AlbumHead
from dualgeo_core.refine.album.posterior import AlbumView
from dualgeo_core.refine.calibration import UNCALIBRATED
from dualgeo_core.refine.features import Features
from dualgeo_core.refine.kernels import SCALES_KM, log_kernel

RIDGE, RIDGE_BY_SCALE, RIDGE_INTERCEPT = 0.003, 0.03, 1e-3  # chosen by cross-validation by photographer
ITERATIONS = 60
_EARTH_LOG_DENSITY = -float(np.log(4 * np.pi * EARTH_RADIUS_KM**2))


def maximise_album(view: AlbumView, rows: Rows, *, truth_xyz: FloatArray) -> AlbumHead:
    """The head of the greatest penalised likelihood of the true places (n, 3) of photos `rows` (L-BFGS from zero)."""
    points = view.points(rows)
    pairs = view.pairs(rows, points)
    own = view.mixtures.pairs.known.shape[1]
    groups = [
        (points.own_features[:, : view.candidates], pairs.known[:, : view.candidates]),
        (points.own_features[:, view.candidates :], pairs.known[:, view.candidates : own]),
        (points.further_features, points.further_known),
    ]
    blocks, means = zip(*(_centred(features, known) for features, known in groups), strict=True)
    offsets = np.zeros((*pairs.known.shape, len(SCALES_KM)))
    offsets[:, :own] = view.own_logits(rows)
    offsets[~pairs.known] = -np.inf
    half_chord = np.linalg.norm(pairs.vectors - truth_xyz[:, None], axis=2) / 2
    distance_km = 2 * EARTH_RADIUS_KM * np.arcsin(np.clip(half_chord, 0, 1))
    weights, background = _fit(
        blocks=[torch.from_numpy(block) for block in blocks],
        offsets=torch.from_numpy(offsets),
        kernels=torch.from_numpy(log_kernel(distance_km[..., None], np.array(SCALES_KM))),
    )
    for weight, mean in zip(weights, means, strict=True):
        weight[0] -= mean @ weight[1:]
    candidate, answer, further = (weight.astype(np.float32) for weight in weights)
    return AlbumHead(
        candidate=candidate,
        answer=answer,
        further=further,
        background=background,
        snaps=False,
        calibration=UNCALIBRATED,
    )


def _centred(features: Features, known: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """A constant and the features less their means over known points; and the means."""
    mean = features[known].mean(axis=0, dtype=np.float64) if known.any() else np.zeros(features.shape[2])
    centred = np.where(known[..., None], features - mean, 0)
    return np.concatenate([np.ones((*known.shape, 1)), centred], axis=2), mean


def _fit(*, blocks: list[torch.Tensor], offsets: torch.Tensor, kernels: torch.Tensor) -> tuple[list[FloatArray], float]:
    """Weights (1 + features, scales) of each block of points, and the background's logit."""
    shared = [torch.zeros(block.shape[2], 1, dtype=torch.double, requires_grad=True) for block in blocks]
    by_scale = [torch.zeros(block.shape[2], len(SCALES_KM), dtype=torch.double, requires_grad=True) for block in blocks]
    background = torch.zeros((), dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [*shared, *by_scale, background], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )
    earth = torch.full((len(offsets), 1), _EARTH_LOG_DENSITY, dtype=torch.double)
    density = torch.cat([kernels.flatten(1), earth], dim=1)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = torch.cat([block @ (s + b) for block, s, b in zip(blocks, shared, by_scale, strict=True)], dim=1)
        flat = (logits + offsets).flatten(1)
        whole = torch.cat([flat, background.expand(len(flat), 1)], dim=1)
        likelihood = (torch.logsumexp(whole + density, dim=1) - torch.logsumexp(whole, dim=1)).mean()
        penalty = sum(
            RIDGE * s[1:].square().sum()
            + RIDGE_BY_SCALE * b[1:].square().sum()
            + RIDGE_INTERCEPT * (s[0].square().sum() + b[0].square().sum())
            for s, b in zip(shared, by_scale, strict=True)
        )
        value = penalty - likelihood
        value.backward()
        return value

    optimiser.step(loss)
    return [(s + b).detach().numpy() for s, b in zip(shared, by_scale, strict=True)], float(background.detach())
