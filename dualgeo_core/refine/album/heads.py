"""The fitted parameters of the album method, and their JSON."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.refine.album.rates import NearnessRates
from dualgeo_core.refine.calibration import Calibration


@dataclass(frozen=True)
class AlbumHead:
    """Weights of a constant and of the album's features, by kernel scale (columns), for each kind of point."""

    candidate: NDArray[np.float32]
    answer: NDArray[np.float32]
    further: NDArray[np.float32]
    background: float
    snaps: bool
    calibration: Calibration


@dataclass(frozen=True)
class AlbumFit:
    """One way to read albums, with their order or without: rates of nearness, and a head by kind of query.

    `near_gap` parts near photos from far ones.
    """

    rates: NearnessRates
    near_gap: float
    alone: AlbumHead
    answered: AlbumHead
