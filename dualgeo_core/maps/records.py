"""What the map's script draws of an answer, as JSON."""

import base64
from collections.abc import Callable
from typing import Any

from dualgeo_core.answering.answers import Answer

Thumbnail = Callable[[str], str | None]  # the address of a picture, by the id of a gallery photo


def map_record(
    answer: Answer,
    *,
    candidate_thumbnail: Thumbnail,
    thumbnail: str | None = None,
    truth: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """The answer in the form of `DualGeoMap.show`.

    `thumbnail` is the address of the photo's own picture, and `truth` its true place (latitude, longitude) if known.
    """
    content = answer.as_json()
    candidates = [
        {**candidate, "thumbnail": _picture(candidate["gallery_id"], candidate_thumbnail)}
        for candidate in content["candidates"]
    ]
    spread = None if answer.spread is None else answer.spread.as_json()
    return {**content, "candidates": candidates, "spread": spread, "thumbnail": thumbnail, "truth": truth}


def _picture(gallery_id: str | None, candidate_thumbnail: Thumbnail) -> str | None:
    return None if gallery_id is None else candidate_thumbnail(gallery_id)


def no_thumbnail(gallery_id: str) -> None:
    """For a gallery whose photos are not on this machine."""


def as_data_uri(jpeg: bytes) -> str:
    """A picture as an address that needs no file."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
