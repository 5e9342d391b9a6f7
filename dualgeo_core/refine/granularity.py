"""The granularity of an answer's text: landmark, city, area, region, country or unknown."""

import re
import unicodedata
from functools import cache
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dualgeo_core.base.towns import nearest_towns
from dualgeo_core.refine.places import country_names, state_names

Granularity = Literal["landmark", "city", "area", "region", "country", "unknown"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)

_NOTHING = re.compile(
    r"^$|^(an? )?(unknown|undetermined|unspecified|indeterminate|unidentif\w+|undisclosed|none|n a|null|nan)\b"
    r"|\b(cannot|could not|can t|unable to|not) (be )?(determine\w*|identif\w+|specif\w+|possible|known|locat\w+)\b"
    r"|\binsufficient\b"
)
_CITY_CENTRE = re.compile(r"\b(city cent(er|re)|downtown)\b")
_AREA = re.compile(
    r"\b(cent(er|re|ral) of|near|rural|area|region|coast|generic|somewhere|approximate\w*|countryside|outskirts"
    r"|ocean|sea|mountains?|desert|valley|islands?|lake|national park|county|province|state|district"
    r"|northern|southern|eastern|western|central)\b"
)
_OTHER_COUNTRY_NAMES = ("usa", "us", "uk", "england", "scotland", "wales", "northern ireland", "uae", "america")


def granularity_of(location: ArrayLike, latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.object_]:
    """The Granularity of each answer (n,), from the place that it names and the town nearest to its coordinates."""
    texts = ["" if pd.isna(text) else str(text) for text in np.asarray(location, dtype=object)]
    points = np.column_stack([np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)])
    towns = nearest_towns(points)
    return np.array([_one(text, str(town["city"])) for text, town in zip(texts, towns, strict=True)], dtype=object)


def _one(text: str, nearest_town: str) -> Granularity:
    words, first = _plain(text), _plain(text.split(",")[0])
    if _NOTHING.search(words):
        return "unknown"
    if first in _countries():
        return "country"
    if first in (_plain(nearest_town), f"{_plain(nearest_town)} city") or _CITY_CENTRE.search(words):
        return "city"
    if first in _states():
        return "region"
    return "area" if _AREA.search(words) else "landmark"


def _plain(text: str) -> str:
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    if text.strip() and not ascii_text.strip():
        return text.lower()  # a name in a non-Latin script is a name, too
    return re.sub(r"[^a-z0-9]+", " ", ascii_text).strip()


@cache
def _countries() -> frozenset[str]:
    return frozenset(map(_plain, country_names())).union(_OTHER_COUNTRY_NAMES)


@cache
def _states() -> frozenset[str]:
    return frozenset(map(_plain, state_names())) - {""}
