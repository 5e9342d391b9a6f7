"""The fitted parameters of the album method, and their JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.refine.album.rates import NEARNESS_KM, NearnessRates
from dualgeo_core.refine.calibration import Calibration
from dualgeo_core.refine.kernels import SCALES_KM

OrderColumn = Literal["order", "taken"]


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
    """One way to read albums: rates of nearness, and a head for photos without and with a usable answer."""

    rates: NearnessRates
    alone: AlbumHead
    answered: AlbumHead


@dataclass(frozen=True)
class AlbumPart:
    """The album part of a refiner: a fit for photos that have a place in their album's order, and one for the others.

    `ordered` reads the column `order_column` of ALBUMS.csv. An order whose median gap to the nearest photo is under
    `least_gap` is in another unit: it counts photos, for example.
    """

    unordered: AlbumFit
    ordered: AlbumFit | None
    order_column: OrderColumn | None
    least_gap: float
    data: dict[str, Any]


def album_part_as_json(part: AlbumPart) -> dict[str, Any]:
    """What `album_part_from_json` reads."""
    return {
        "unordered": _fit_as_json(part.unordered),
        "ordered": None if part.ordered is None else _fit_as_json(part.ordered),
        "order_column": part.order_column,
        "least_gap": part.least_gap,
        "data": part.data,
    }


def album_part_from_json(content: dict[str, Any]) -> AlbumPart:
    """The album part; raises KeyError, TypeError or ValueError if the content is something else."""
    return AlbumPart(
        unordered=_fit(content["unordered"]),
        ordered=None if content["ordered"] is None else _fit(content["ordered"]),
        order_column=content["order_column"],
        least_gap=float(content["least_gap"]),
        data=dict(content["data"]),
    )


def _fit_as_json(fit: AlbumFit) -> dict[str, Any]:
    rates = {
        "knots": list(fit.rates.knots),
        "weights": fit.rates.weights.round(5).tolist(),
        "constant": fit.rates.constant.round(5).tolist(),
    }
    heads = {name: _head_as_json(head) for name, head in (("alone", fit.alone), ("answered", fit.answered))}
    return {"rates": rates, **heads}


def _fit(content: dict[str, Any]) -> AlbumFit:
    rates = NearnessRates(
        knots=tuple(content["rates"]["knots"]),
        weights=np.array(content["rates"]["weights"], dtype=np.float64).reshape(len(NEARNESS_KM), -1),
        constant=np.array(content["rates"]["constant"], dtype=np.float64),
    )
    return AlbumFit(rates=rates, alone=_head(content["alone"]), answered=_head(content["answered"]))


def _head_as_json(head: AlbumHead) -> dict[str, Any]:
    names = ("candidate", "answer", "further")
    return {**asdict(head), **{name: np.round(getattr(head, name), 5).tolist() for name in names}}


def _head(content: dict[str, Any]) -> AlbumHead:
    weights = {
        name: np.array(content[name], dtype=np.float32).reshape(-1, len(SCALES_KM))
        for name in ("candidate", "answer", "further")
    }
    return AlbumHead(
        **weights,
        background=float(content["background"]),
        snaps=bool(content["snaps"]),
        calibration=Calibration(**content["calibration"]),
    )
