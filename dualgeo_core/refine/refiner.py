"""The fitted refiner: weights, calibration and a record of the data, in one small JSON file."""

import math
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
from dualgeo_core.refine.likeness import Likeness

SHIPPED_REFINER = Path(__file__).parent / "data" / "refiner.json"
REFINER_FILE = "refiner.json"
FORMAT = 2


@dataclass(frozen=True)
class Head:
    """The weights for queries with, or without, an answer: logits by feature (rows) and kernel scale (columns)."""

    candidate: NDArray[np.float32]
    answer: NDArray[np.float32]
    background: float
    score_scales: dict[str, float]
    snaps: bool
    calibration: Calibration


@dataclass(frozen=True)
class Refiner:
    """A head for queries without a usable answer, a head for queries with one, and a record of the fitted data.

    `album` is None unless albums were fitted, too. `likeness` is None if the candidates had no view similarities.
    """

    alone: Head
    answered: Head
    data: dict[str, Any]
    album: AlbumPart | None = None
    likeness: Likeness | None = None

    def doubts(self, *, least_likeness: float) -> tuple[str, ...]:
        """What the refiner cannot vouch for because it saw too little, one line each; empty if there is nothing."""
        found = [self.alone.calibration.doubt]
        if self.likeness is None:
            found.append("photos unlike the gallery are not recognised: the refiner was not calibrated on this gallery")
        elif least_likeness * (self.likeness.photographers + 1) <= 1 and least_likeness > 0:
            needed = math.ceil(1 / least_likeness)
            found.append(
                f"photos unlike the gallery keep a position, with large radii: {self.likeness.photographers} "
                f"photographers are held out, and refusing such photos needs {needed}"
            )
        return tuple(doubt for doubt in found if doubt)

    @property
    def fingerprint(self) -> str:
        """Digest of all parameters."""
        return fingerprint(_as_json(self))


def save_refiner(path: Path, refiner: Refiner) -> None:
    """Writes `refiner` as JSON, atomically."""
    write_json(path, _as_json(refiner))


def load_refiner(path: Path) -> Refiner:
    """The refiner in a file written by `save_refiner`. Raises InputError if the file has another format."""
    content = read_json(path)
    try:
        if content["format"] != FORMAT or tuple(content["scales_km"]) != SCALES_KM:
            raise InputError(f"{path} has the format of another version; fit it again with `dualgeo fit-refiner`")
        return Refiner(
            alone=_head(content["alone"]),
            answered=_head(content["answered"]),
            data=content["data"],
            album=album_part_from_json(content["album"]) if "album" in content else None,
            likeness=_likeness(content["likeness"]) if "likeness" in content else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a refiner ({error!r}); create one with `dualgeo fit-refiner`") from None


@cache
def shipped_refiner() -> Refiner:
    """The refiner that ships with the package, fitted on ranks of half of IM2GPS3k's photographers."""
    return load_refiner(SHIPPED_REFINER)


def _as_json(refiner: Refiner) -> dict[str, Any]:
    heads = {name: _head_as_json(head) for name, head in (("alone", refiner.alone), ("answered", refiner.answered))}
    album = {} if refiner.album is None else {"album": album_part_as_json(refiner.album)}
    likeness: dict[str, Any] = {}
    if refiner.likeness is not None:
        seen = refiner.likeness
        likeness = {
            "likeness": {
                "similarity": seen.similarity.tolist(),
                "photographer": seen.photographer.tolist(),
                "tolerance": seen.tolerance,
            }
        }
    return {"format": FORMAT, "scales_km": list(SCALES_KM), "data": refiner.data, **heads, **album, **likeness}


def _likeness(content: dict[str, Any]) -> Likeness:
    return Likeness(
        similarity=np.array(content["similarity"], dtype=np.float64).reshape(-1, 2),
        photographer=np.array(content["photographer"], dtype=np.int64),
        tolerance=float(content["tolerance"]),
    )


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
