"""Answers: the position of a photo with its radii, as objects, JSON and GeoJSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from dualgeo_core.answering.spread import Spread

KM_PER_DEGREE = 111.2  # of latitude
MOST_DECIMALS = 5  # 1 m


@dataclass(frozen=True)
class Candidate:
    """A gallery photo similar to the query, or a place that fits it, whose `gallery_id` is None."""

    gallery_id: str | None
    latitude: float
    longitude: float
    similarity: float


@dataclass(frozen=True)
class Answer:
    """The predicted position of a photo, with radii in km.

    Position and radii are None if there is no answer. `status` then names the cause, and `reason` says in words which
    evidence is missing. `calibrated` says whether radii and confidence are calibrated on photos with known places.
    `spread` is what a map draws of the posterior; it is None unless asked for.
    """

    photo: str
    status: str
    reason: str | None
    latitude: float | None
    longitude: float | None
    place: str | None
    radius_50_km: float | None
    radius_90_km: float | None
    confidence_25km: float | None
    candidates: list[Candidate]
    locator: str
    calibrated: bool = True
    spread: Spread | None = None

    @property
    def rounded(self) -> tuple[float, float] | None:
        """Latitude and longitude with as many decimals as the radius supports; None without a position."""
        if self.latitude is None or self.longitude is None:
            return None
        decimals = supported_decimals(self.radius_50_km)
        return round(self.latitude, decimals), round(self.longitude, decimals)

    def as_json(self) -> dict[str, Any]:
        """The answer for machines: position as `rounded`, radii in whole metres. Without `spread`."""
        position = self.rounded or (None, None)
        return {
            "photo": self.photo,
            "status": self.status,
            "reason": self.reason,
            "latitude": position[0],
            "longitude": position[1],
            "place": self.place,
            "radius_50_km": _rounded(self.radius_50_km, 3),
            "radius_90_km": _rounded(self.radius_90_km, 3),
            "confidence_25km": _rounded(self.confidence_25km, 4),
            "calibrated": self.calibrated,
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "locator": self.locator,
        }


def answer_of(
    name: str,
    prediction: "pd.Series[Any]",
    *,
    candidates: pd.DataFrame,
    reason: str | None,
    spread: Spread | None,
    locator: str,
    calibrated: bool,
) -> Answer:
    """The answer that a row of predictions and a photo's most similar candidates (best first) hold."""

    def known(column: str) -> Any:
        return None if pd.isna(prediction[column]) else prediction[column]

    return Answer(
        photo=name,
        status=str(prediction["status"]),
        reason=reason,
        latitude=known("latitude"),
        longitude=known("longitude"),
        place=known("place"),
        radius_50_km=known("radius_50_km"),
        radius_90_km=known("radius_90_km"),
        confidence_25km=known("confidence_25km"),
        calibrated=calibrated,
        candidates=[
            Candidate(**{str(column): value for column, value in row.items()})
            for row in candidates[["gallery_id", "latitude", "longitude", "similarity"]].to_dict("records")
        ],
        locator=locator,
        spread=spread,
    )


def supported_decimals(radius_km: float | None) -> int:
    """Decimals of degrees whose rounding error is at most a third of the radius that holds half of the photos.

    Without a radius: MOST_DECIMALS.
    """
    if radius_km is None or radius_km <= 0:
        return MOST_DECIMALS
    return min(max(math.ceil(math.log10(KM_PER_DEGREE / 2 / (radius_km / 3))), 0), MOST_DECIMALS)


def as_geojson(answers: Sequence[Answer]) -> dict[str, Any]:
    """A GeoJSON FeatureCollection (RFC 7946): one point per answer; a photo without position has no geometry."""
    return {"type": "FeatureCollection", "features": [_feature(answer) for answer in answers]}


def _feature(answer: Answer) -> dict[str, Any]:
    content = answer.as_json()
    latitude, longitude = content.pop("latitude"), content.pop("longitude")
    content.pop("candidates")
    point = None if latitude is None else {"type": "Point", "coordinates": [longitude, latitude]}
    return {"type": "Feature", "geometry": point, "properties": content}


def _rounded(value: float | None, decimals: int) -> float | None:
    return None if value is None else round(float(value), decimals)
