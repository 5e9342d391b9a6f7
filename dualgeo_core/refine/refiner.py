"""The fitted refiner: few parameters, how they were calibrated, and the data they come from; one small JSON file."""

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint, read_json, write_json
from dualgeo_core.refine.album.heads import AlbumPart, album_part_as_json, album_part_from_json
from dualgeo_core.refine.calibration import Calibration
from dualgeo_core.refine.kernels import SCALES_KM

SHIPPED = Path(__file__).parent / "data" / "refiner.json"
FORMAT = 1


@dataclass(frozen=True)
class Head:
    """Weights of one kind of query, with or without an answer: logits of evidence by kernel scale (columns)."""

    candidate: NDArray[np.float32]
    answer: NDArray[np.float32]
    background: float
    score_scales: dict[str, float]
    snaps: bool
    calibration: Calibration


@dataclass(frozen=True)
class Refiner:
    """A head for queries without a usable answer, one for queries with one, and what they were fitted on.

    `album` is there where albums were fitted, too.
    """

    alone: Head
    answered: Head
    data: dict[str, Any]
    album: AlbumPart | None = None

    @property
    def fingerprint(self) -> str:
        """Of every parameter."""
        return fingerprint(_as_json(self))


def save_refiner(path: Path, refiner: Refiner) -> None:
    """Writes the JSON file, atomically."""
    write_json(path, _as_json(refiner))


def load_refiner(path: Path) -> Refiner:
    """The refiner of a file that `save_refiner` wrote; raises InputError where it is something else."""
    content = read_json(path)
    try:
        if content["format"] != FORMAT or tuple(content["scales_km"]) != SCALES_KM:
            raise InputError(f"{path} was made by another version; make it anew with `dualgeo fit-refiner`")
        return Refiner(
            alone=_head(content["alone"]),
            answered=_head(content["answered"]),
            data=content["data"],
            album=album_part_from_json(content["album"]) if "album" in content else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no refiner ({error!r}); make one with `dualgeo fit-refiner`") from None


@cache
def shipped_refiner() -> Refiner:
    """The fit that ships with the package: by ranks, on half of IM2GPS3k's photographers."""
    return load_refiner(SHIPPED)


def _as_json(refiner: Refiner) -> dict[str, Any]:
    heads = {name: _head_as_json(head) for name, head in (("alone", refiner.alone), ("answered", refiner.answered))}
    album = {} if refiner.album is None else {"album": album_part_as_json(refiner.album)}
    return {"format": FORMAT, "scales_km": list(SCALES_KM), "data": refiner.data, **heads, **album}


def _head_as_json(head: Head) -> dict[str, Any]:
    weights = {"candidate": head.candidate.tolist(), "answer": head.answer.tolist()}
    return {**asdict(head), **{name: np.round(rows, 5).tolist() for name, rows in weights.items()}}


def _head(content: dict[str, Any]) -> Head:
    return Head(
        candidate=np.array(content["candidate"], dtype=np.float32).reshape(-1, len(SCALES_KM)),
        answer=np.array(content["answer"], dtype=np.float32).reshape(-1, len(SCALES_KM)),
        background=float(content["background"]),
        score_scales=dict(content["score_scales"]),
        snaps=bool(content["snaps"]),
        calibration=Calibration(**content["calibration"]),
    )
