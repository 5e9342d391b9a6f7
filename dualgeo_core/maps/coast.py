"""Coastlines: Natural Earth 1:110m, public domain."""

import json
from functools import cache
from importlib import resources


@cache
def coastlines() -> list[list[tuple[float, float]]]:
    """Lines of (longitude, latitude) in degrees."""
    text = resources.files("dualgeo_core.maps").joinpath("data/coastlines.json").read_text(encoding="utf-8")
    lines: list[list[tuple[float, float]]] = json.loads(text)["lines"]
    return lines
