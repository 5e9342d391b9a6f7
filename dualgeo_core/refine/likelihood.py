"""The weights of one head, by maximum likelihood of the true places under the mixture."""

import numpy as np
import torch

from dualgeo_core.base.geo import EARTH_RADIUS_KM, HALF_CIRCUMFERENCE_KM, FloatArray, haversine_km
from dualgeo_core.refine.calibration import UNCALIBRATED
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.evidence import Evidence
from dualgeo_core.refine.features import answer_features, candidate_features, pairs_of, score_gap
from dualgeo_core.refine.kernels import SCALES_KM, log_kernel
from dualgeo_core.refine.refiner import Head
from dualgeo_core.refine.tables import SCORES

# By `answered`: ridge penalties on the weights shared by all scales and on those per scale (cross-validated).
RIDGE = {False: (0.01, 0.1), True: (0.03, 0.3)}
_EARTH_LOG_DENSITY = -float(np.log(4 * np.pi * EARTH_RADIUS_KM**2))


def maximise(
    evidence: Evidence, latitude: FloatArray, longitude: FloatArray, *, answered: bool, density: PhotoDensity
) -> Head:
    """The uncalibrated head with the greatest penalised likelihood of the true places (L-BFGS from zero)."""
    pairs = pairs_of(evidence)
    gaps = {name: float(np.abs(score_gap(getattr(evidence, name))).mean()) for name in SCORES}
    scales = {name: gap for name, gap in gaps.items() if gap > 0}
    k = evidence.latitude.shape[1]
    candidate = candidate_features(evidence, pairs, density=density, answered=answered, score_scales=scales)
    means = np.where(pairs.known[:, :k, None], candidate, 0).sum(axis=(0, 1)) / pairs.known[:, :k].sum()
    means[0] = 0
    named = answer_features(evidence)
    known = torch.from_numpy(pairs.known if answered else pairs.known[:, :k])
    distance = haversine_km(
        np.concatenate([evidence.latitude, evidence.answer_latitude], axis=1)[:, : known.shape[1]],
        np.concatenate([evidence.longitude, evidence.answer_longitude], axis=1)[:, : known.shape[1]],
        latitude[:, None],
        longitude[:, None],
    )
    fit = _fit_weights(
        candidate=torch.from_numpy(candidate - means).double(),
        answer=torch.from_numpy(named).double() if answered else None,
        known=known,
        kernels=torch.from_numpy(
            log_kernel(np.nan_to_num(distance, nan=HALF_CIRCUMFERENCE_KM)[..., None], np.array(SCALES_KM))
        ),
        ridge=RIDGE[answered],
    )
    weights = fit[0].numpy()
    weights[0] -= means @ weights
    return Head(
        candidate=weights.astype(np.float32),
        answer=fit[1].numpy().astype(np.float32),
        background=float(fit[2]),
        score_scales=scales,
        snaps=False,
        calibration=UNCALIBRATED,
    )


def _fit_weights(
    *,
    candidate: torch.Tensor,
    answer: torch.Tensor | None,
    known: torch.Tensor,
    kernels: torch.Tensor,
    ridge: tuple[float, float],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights (features, scales) of candidates and of answers, and the logit of the background."""
    blocks = [candidate] if answer is None else [candidate, answer]
    shared = [torch.zeros(block.shape[2], 1, dtype=torch.double, requires_grad=True) for block in blocks]
    by_scale = [torch.zeros(block.shape[2], len(SCALES_KM), dtype=torch.double, requires_grad=True) for block in blocks]
    background = torch.zeros((), dtype=torch.double, requires_grad=True)
    samples = known[:, candidate.shape[1] :].sum(dim=1).clamp(min=1)
    optimiser = torch.optim.LBFGS(
        [*shared, *by_scale, background], max_iter=80, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = [block @ (s + b) for block, s, b in zip(blocks, shared, by_scale, strict=True)]
        if answer is not None:
            logits[1] = logits[1] - samples.log()[:, None, None]
        flat = torch.cat(logits, dim=1).masked_fill(~known[..., None], -torch.inf).flatten(1)
        whole = torch.cat([flat, background.expand(len(flat), 1)], dim=1)
        density = torch.cat([kernels.flatten(1), torch.full((len(flat), 1), _EARTH_LOG_DENSITY, dtype=torch.double)], 1)
        likelihood = torch.logsumexp(torch.log_softmax(whole, dim=1) + density, dim=1).mean()
        penalty = sum(
            ridge[0] * s[1:].square().sum() + ridge[1] * b[1:].square().sum() + 1e-3 * b[0].square().sum()
            for s, b in zip(shared, by_scale, strict=True)
        )
        value = penalty - likelihood
        value.backward()
        return value

    optimiser.step(loss)
    found = [(s + b).detach() for s, b in zip(shared, by_scale, strict=True)]
    return found[0], found[1] if answer is not None else torch.zeros(0, len(SCALES_KM)), background.detach()
