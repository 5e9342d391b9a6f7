"""The posterior of each photo as a mixture of kernels, for maps: the one from which `posterior` decides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.geo import FloatArray
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.evidence import Evidence
from dualgeo_core.refine.features import pairs_of
from dualgeo_core.refine.posterior import component_weights, likeness_of
from dualgeo_core.refine.refiner import Refiner


@dataclass(frozen=True)
class Mixture:
    """The kernels of one photo: points (m, 3), weights (m, scales), and the weight of the whole Earth."""

    points_xyz: FloatArray
    weights: NDArray[np.float32]
    background: float


def mixtures_of(evidence: Evidence, *, refiner: Refiner, density: PhotoDensity) -> list[Mixture]:
    """The mixture of each query (n,); one without evidence has only background."""
    found = [Mixture(np.zeros((0, 3)), np.zeros((0, 0), dtype=np.float32), 1.0) for _ in range(len(evidence))]
    answered, trust = evidence.has_answers, likeness_of(evidence, refiner)[1]
    for head, rows in (
        (refiner.alone, np.flatnonzero(evidence.has_candidates & ~answered)),
        (refiner.answered, np.flatnonzero(answered)),
    ):
        if not len(rows):
            continue
        asked = evidence.take(rows)
        pairs = pairs_of(asked)
        weights, background = component_weights(asked, pairs, head=head, density=density)
        for row, points, known, kernels, rest in zip(
            rows, pairs.vectors, pairs.known, weights, background, strict=True
        ):
            found[row] = Mixture(points[known], trust[row] * kernels[known], float(1 - trust[row] * (1 - rest)))
    return found
