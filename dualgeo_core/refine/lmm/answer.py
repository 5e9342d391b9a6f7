"""The model's text as a typed answer: a position, or a status that gives the reason for its absence."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal, get_args

from dualgeo_core.base.geo import NULL_ISLAND, coordinate_fault
from dualgeo_core.refine.granularity import GRANULARITIES

Status = Literal["answered", "refused", "unparseable", "out_of_range", "zero", "undecodable", "failed", "over_budget"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class LmmAnswer:
    """A position in degrees if `status` is `answered`, otherwise NaN."""

    status: Status
    latitude: float = float("nan")
    longitude: float = float("nan")
    location: str = ""
    granularity: str = ""
    evidence: str = ""


_REFUSAL = re.compile(
    r"\b(sorry|can(no|')t|can’t|unable|not able|won't|refuse|decline|against my|not possible)\b", re.I
)
_DEGREES = re.compile(
    r"^\s*(?P<before>[NSEW])?\s*(?P<sign>[-+−])?\s*(?P<degrees>\d+(?:\.\d*)?|\.\d+)\s*[°º]?"
    r"\s*(?:(?P<minutes>\d+(?:\.\d*)?)\s*['′’]\s*)?(?:(?P<seconds>\d+(?:\.\d*)?)\s*(?:\"|″|”|'')\s*)?"
    r"(?:deg(?:rees)?)?\s*(?P<after>[NSEW]|north|south|east|west)?\s*$",
    re.I,
)


def parse_answer(text: str) -> LmmAnswer:
    """The answer in the first JSON object of `text` that has coordinates; text around it is ignored.

    Coordinates are numbers, or strings such as `33.9 S` or `33°51′ S`. Nothing is guessed: a refusal, broken JSON, 0,0
    and coordinates out of range each have their own status.
    """
    found = next((item for item in _objects(text) if "latitude" in item and "longitude" in item), None)
    if found is None:
        return LmmAnswer("refused" if _REFUSAL.search(text) and "{" not in text else "unparseable")
    granularity = str(found.get("granularity") or "").strip().lower()
    text_only = LmmAnswer(
        "refused",
        location=str(found.get("place") or ""),
        granularity=granularity if granularity in GRANULARITIES else "",
        evidence=str(found.get("evidence") or ""),
    )
    if found["latitude"] is None or found["longitude"] is None or granularity == "unknown":
        return text_only
    latitude, longitude = degrees(found["latitude"], "NS"), degrees(found["longitude"], "EW")
    if latitude is None or longitude is None:
        return replace(text_only, status="unparseable")
    fault = coordinate_fault(latitude, longitude)
    if fault:
        return replace(text_only, status="zero" if fault == NULL_ISLAND else "out_of_range")
    return replace(text_only, status="answered", latitude=latitude, longitude=longitude)


def degrees(value: Any, hemispheres: str) -> float | None:
    """A coordinate in signed degrees; None if it cannot be read. `hemispheres` is NS or EW, positive first."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if isfinite(value) else None
    match = _DEGREES.match(value) if isinstance(value, str) else None
    if match is None or (match["before"] and match["after"]):
        return None
    parts = [float(match[name] or 0) for name in ("degrees", "minutes", "seconds")]
    if max(parts[1:]) >= 60:
        return None
    size = parts[0] + parts[1] / 60 + parts[2] / 3600
    hemisphere = (match["before"] or match["after"] or "")[:1].upper()
    negative = match["sign"] in ("-", "−")
    if hemisphere and (hemisphere not in hemispheres or match["sign"]):
        return None
    return -size if negative or hemisphere == hemispheres[1] else size


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """All JSON objects in `text`, in order; nested objects come after their parents."""
    decoder = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"\{", text)):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
