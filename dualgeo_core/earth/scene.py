"""The scene of a cell of the synthetic Earth: land, horizon and street, painted from back to front."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from dualgeo_core.earth.canvas import Camera, Canvas, Point
from dualgeo_core.earth.geography import Cell, City, Country, Rgb, hsv, seeded
from dualgeo_core.earth.light import Conditions
from dualgeo_core.earth.things import (
    LANDMARKS,
    SNOW,
    Building,
    Look,
    paint_building,
    paint_lamp,
    paint_landmark,
    paint_person,
    paint_sign,
    paint_tree,
    paint_vehicle,
    shaded,
)

FAR_M = 900.0
GROUND: dict[str, Rgb] = {
    "tropical": (104, 122, 62),
    "desert": (206, 176, 128),
    "mediterranean": (158, 146, 92),
    "temperate": (98, 128, 66),
    "continental": (112, 130, 72),
    "boreal": (94, 112, 74),
}
TREES: dict[str, tuple[str, ...]] = {
    "tropical": ("palm", "broadleaf", "palm", "shrub"),
    "desert": ("palm", "cactus", "shrub", "shrub"),
    "mediterranean": ("broadleaf", "conifer", "palm", "shrub"),
    "temperate": ("broadleaf", "broadleaf", "shrub", "conifer"),
    "continental": ("broadleaf", "conifer", "broadleaf", "shrub"),
    "boreal": ("conifer", "conifer", "broadleaf", "shrub"),
}
# Probabilities of the landmarks by script, in the order of LANDMARKS.
LATIN_LANDMARKS = (0.4, 0.15, 0.03, 0.02, 0.18, 0.1, 0.12)
EASTERN_LANDMARKS = (0.05, 0.05, 0.0, 0.45, 0.2, 0.15, 0.1)
LANDMARK_SHARES = {
    "arabic": (0.05, 0.3, 0.4, 0.0, 0.1, 0.05, 0.1),
    **dict.fromkeys(("han", "kana", "hangul", "brahmic"), EASTERN_LANDMARKS),
}


@dataclass(frozen=True)
class Street:
    """The fixed properties of a cell's street. Lengths are metres."""

    road_half: float
    pavement: float
    setback: float
    height: float
    spread: float
    gap: float
    tree_step: float
    tree: str
    waterside: float  # -1 left, 1 right, 0 none


@dataclass(frozen=True)
class Thing:
    """An object on the street: its distance along it, how to paint it, and the outlines of its shadows."""

    distance: float
    paint: Callable[[Canvas], None]
    shadows: list[list[Point]] = field(default_factory=list)


def paint_scene(
    *, cell: Cell, forward: bool, camera: Camera, conditions: Conditions, rng: np.random.Generator
) -> Canvas:
    """The painted layers of one photo. Fixed objects depend on the cell; `rng` places only traffic and pedestrians."""
    canvas, look = Canvas(camera), Look(conditions)
    view = (cell.key, forward)
    street = _street(cell, forward)
    standing = _standing(cell, view, street, look)
    _paint_horizon(canvas, cell, view, look, street)
    _paint_land(canvas, cell, view, look, street)
    if conditions.sunshine > 0.2:
        canvas.shade([outline for thing in standing for outline in thing.shadows])
    _paint_landmarks(canvas, cell, view, look)
    things = standing + _traffic(cell.city.country, street, camera, look, rng)
    for thing in sorted(things, key=lambda thing: -thing.distance):
        thing.paint(canvas)
    return canvas


def _street(cell: Cell, forward: bool) -> Street:
    rng = seeded("street", cell.key)
    urban = cell.centrality * (0.55 + 0.2 * math.log10(cell.city.population / 90_000 + 1))
    side = 0.0
    if cell.city.open_bearing is not None and rng.random() < 0.55:
        side = 1.0 if math.sin(math.radians(cell.city.open_bearing - cell.heading)) > 0 else -1.0
    return Street(
        road_half=float(rng.uniform(2.6, 3.6) + 2.2 * (rng.random() < 0.4)),
        pavement=float(rng.uniform(1.2, 3.0)),
        setback=float(rng.uniform(0, 1.0) if urban > 0.5 else rng.uniform(1, 7)),
        height=float(rng.uniform(3.5, 7) + 16 * urban * rng.random()),
        spread=float(rng.uniform(0.1, 0.6)),
        gap=float(rng.uniform(0, 1.5) if urban > 0.5 else rng.uniform(2, 12)),
        tree_step=float(rng.uniform(7, 30)),
        tree=TREES[cell.city.climate][cell.city.trees[rng.integers(2)]],
        waterside=side if forward else -side,
    )


def _foliage(climate: str, tree: str, conditions: Conditions, rng: np.random.Generator) -> tuple[str, Rgb]:
    """The kind and colour of a tree in this season."""
    green = _green(climate, conditions, rng)
    if tree != "broadleaf" or climate in ("tropical", "desert", "mediterranean"):
        return tree, green
    if conditions.season == "winter":
        return "bare", (96, 82, 70)
    if conditions.season == "autumn":
        return tree, hsv(0.03 + 0.09 * (green[0] % 10) / 10, 0.75, 0.65)
    return tree, green


def _green(climate: str, conditions: Conditions, rng: np.random.Generator) -> Rgb:
    hue = {"mediterranean": 0.22, "desert": 0.2, "boreal": 0.36, "tropical": 0.31}.get(climate, 0.27)
    fresh = 0.12 if conditions.season == "spring" else 0.0
    return hsv(hue + rng.normal(0, 0.015), 0.55, rng.uniform(0.34, 0.46) + fresh)


def _paint_horizon(canvas: Canvas, cell: Cell, view: tuple[str, bool], look: Look, street: Street) -> None:
    """Paints the city's mountains, which all its cells share, and the cell's own distant skyline."""
    heading = cell.heading + (0 if view[1] else 180)
    waves = seeded("mountains", cell.city.country.code, cell.city.name)
    phases, sizes = waves.uniform(0, 2 * np.pi, 7), waves.uniform(0.3, 1, 7) / np.arange(1, 8)
    bearings = np.linspace(-55, 55, 60)
    turns = np.radians(bearings + heading)[:, None] * np.array([2, 3, 5, 8, 13, 21, 34])
    heights = np.maximum(0.0, 0.35 + (np.sin(turns + phases) * sizes).sum(1) * 0.5) * cell.city.ruggedness * 0.17
    rock: Rgb = SNOW if look.conditions.snow_cover else shaded(GROUND[cell.city.climate], waves.uniform(0.55, 0.85))
    ridge = [_at_bearing(bearing, FAR_M, FAR_M * height) for bearing, height in zip(bearings, heights, strict=True)]
    foot = [_at_bearing(bearings[-1], FAR_M, -20), _at_bearing(bearings[0], FAR_M, -20)]
    if heights.max() > 0.01:
        canvas.paint([*ridge, *foot], rock, "mountain", 0.6 * look.facing + 0.2)
    rng = seeded("skyline", view)
    tall = 8 + 55 * cell.centrality * rng.random() * min(1.5, math.log10(cell.city.population / 30_000))
    for _ in range(int(rng.integers(8, 22))):
        bearing, distance = rng.uniform(-45, 45), rng.uniform(220, 420)
        if street.waterside and math.copysign(1, bearing) == street.waterside:
            continue
        base = _at_bearing(bearing, distance, -2)
        wall = shaded(cell.city.walls[rng.integers(2)], rng.uniform(0.6, 0.95))
        canvas.upright(base, rng.uniform(12, 34), tall * rng.uniform(0.4, 1.2) + 6, wall, "building", look.facing)


def _at_bearing(bearing: float, distance: float, height: float) -> Point:
    angle = math.radians(bearing)
    return distance * math.sin(angle), height, distance * math.cos(angle)


def _paint_land(canvas: Canvas, cell: Cell, view: tuple[str, bool], look: Look, street: Street) -> None:
    """Paints ground, water, pavement, road and road markings."""
    rng, country, climate = seeded("land", view), cell.city.country, cell.city.climate
    flat = look.sun_on((0, 1, 0))
    snowy = look.conditions.snow_cover
    soil = SNOW if snowy else shaded(GROUND[climate], cell.city.soil * rng.uniform(0.93, 1.07))
    if (
        not snowy
        and look.conditions.season in ("winter", "autumn")
        and climate in ("temperate", "continental", "boreal")
    ):
        soil = (136, 122, 84)
    road = (196, 200, 206) if snowy else (96, 96, 98) if climate != "desert" else (134, 126, 116)
    kerb = street.road_half + street.pavement

    def strip(left: float, right: float, near: float, far: float, colour: Rgb, label: str) -> None:
        outline = [(left, 0.0, near), (right, 0.0, near), (right, 0.0, far), (left, 0.0, far)]
        canvas.paint(outline, colour, label, flat)

    strip(-2 * FAR_M, 2 * FAR_M, -30, 2 * FAR_M, soil, "ground")
    if street.waterside:
        shore = kerb + 1.5
        left, right = (shore, 2 * FAR_M) if street.waterside > 0 else (-2 * FAR_M, -shore)
        strip(left, right, -30, 3 * FAR_M, (62, 108, 138), "water")
    paving = SNOW if snowy else shaded((178, 170, 160), rng.uniform(0.8, 1.1))
    strip(-kerb, kerb, -30, 400, paving, "sidewalk")
    strip(-street.road_half, street.road_half, -30, 500, road, "road")
    tone = shaded(country.line_colour, 0.95)
    dash = country.line_dash_m
    for start in np.arange(-6.0, 90.0, dash * 2.2):
        strip(-0.11, 0.11, start, start + dash, tone, "line")
    if country.edge_lines:
        for side in (-1, 1):
            edge = side * (street.road_half - 0.3)
            strip(edge - 0.09, edge + 0.09, -30, 200, (232, 232, 228), "line")
    if rng.random() < 0.4:
        crossing = rng.uniform(9, 26)
        for left in np.arange(-street.road_half + 0.3, street.road_half - 0.5, 1.0):
            strip(left, left + 0.5, crossing, crossing + 3.2, (232, 232, 228), "line")


def _paint_landmarks(canvas: Canvas, cell: Cell, view: tuple[str, bool], look: Look) -> None:
    rng = seeded("landmark", view)
    shares = LANDMARK_SHARES.get(cell.city.country.script, LATIN_LANDMARKS)
    for distance in sorted(rng.uniform(70, 170, int(rng.integers(1, 3))), reverse=True):
        kind = str(rng.choice(list(LANDMARKS), p=shares))
        base = (distance * rng.uniform(-0.28, 0.28), 0.0, distance)
        colour = hsv(rng.random(), rng.uniform(0.3, 0.75), 0.75)
        paint_landmark(canvas, kind, base, rng.uniform(24, 62), colour, look)


def _standing(cell: Cell, view: tuple[str, bool], street: Street, look: Look) -> list[Thing]:
    """All fixed objects along the street."""
    rng, country, found = seeded("things", view), cell.city.country, []
    kerb = street.road_half + street.pavement
    for side in (-1, 1):
        if street.waterside != side:
            found += _row_of_buildings(side, kerb, street, cell.city, look, rng)
        for z in np.arange(rng.uniform(4, 12), 90, street.tree_step):
            kind, leaves = _foliage(cell.city.climate, street.tree, look.conditions, rng)
            base, height = (side * (kerb - 0.3), 0.0, float(z)), rng.uniform(4, 8.5)
            paint = partial(paint_tree, kind=kind, base=base, height=height, seed=_seed(rng), leaves=leaves, look=look)
            found.append(Thing(z, paint, [look.shadow_of(base[0], z, 0.35 * height, height)]))
        for z in np.arange(rng.uniform(6, 14), 80, 26):
            x = side * (street.road_half + 0.4)
            found.append(Thing(z, partial(paint_lamp, x=x, z=float(z), country=country, look=look)))
    big = (float(rng.choice([-1, 1])) * (kerb - 0.6), rng.uniform(2.4, 3.4), rng.uniform(9, 15))
    small = (float(rng.choice([-1, 1])) * (street.road_half + 0.3), 2.3, rng.uniform(6, 11))
    found.append(_sign(big, (rng.uniform(1.8, 3.2), 1.1), country.sign_colour, country, look, rng))
    found.append(_sign(small, (0.8, 0.8), country.sign_colour, country, look, rng))
    return found


def _row_of_buildings(
    side: int, kerb: float, street: Street, city: City, look: Look, rng: np.random.Generator
) -> list[Thing]:
    """The buildings of one side of the street, some with a shop sign."""
    found, country, z = [], city.country, rng.uniform(-4, 4)
    while z < 130:
        building = Building(
            x=side * (kerb + street.setback + rng.uniform(0, 0.8)),
            z=z,
            length=rng.uniform(7, 19),
            depth=rng.uniform(7, 14),
            height=max(3.0, street.height * (1 + street.spread * rng.normal())),
            wall=shaded(city.walls[rng.integers(2)], rng.uniform(0.85, 1.1)),
            roof=country.roof,
            window=country.window,
            storey=rng.uniform(2.9, 3.6),
            seed=_seed(rng),
        )
        end, middle = z + building.length, building.x + side * building.depth / 2
        shadows = [look.shadow_of(middle, at, building.depth, building.height) for at in np.linspace(z, end, 4)]
        found.append(Thing(end, partial(paint_building, building=building, country=country, look=look), shadows))
        if rng.random() < 0.35:
            board = hsv(rng.random(), 0.7, rng.uniform(0.4, 0.9))
            shop = (side * (kerb + street.setback - 0.6), 3.1, z + 0.1)
            found.append(_sign(shop, (2.2, 0.9), board, country, look, rng))
        z = end + street.gap * rng.uniform(0.3, 1.6)
    return found


def _sign(
    centre: Point, size: tuple[float, float], board: Rgb, country: Country, look: Look, rng: np.random.Generator
) -> Thing:
    paint = partial(paint_sign, centre=centre, size=size, board=board, country=country, seed=_seed(rng), look=look)
    return Thing(centre[2], paint)


def _traffic(country: Country, street: Street, camera: Camera, look: Look, rng: np.random.Generator) -> list[Thing]:
    """Vehicles, on the country's side of the road, and pedestrians at the time of the photo."""
    found = []
    own_side = -1 if country.drives_left else 1
    for _ in range(int(rng.poisson(1.6))):
        oncoming = bool(rng.random() < 0.5)
        x = (-own_side if oncoming else own_side) * street.road_half * rng.uniform(0.4, 0.6)
        z = camera.z + rng.uniform(7, 55)
        colour, tall = country.car_colours[rng.integers(3)], bool(rng.random() < 0.2)
        paint = partial(paint_vehicle, x=x, z=z, colour=colour, tall=tall, oncoming=oncoming, look=look)
        found.append(Thing(z, paint))
    for _ in range(int(rng.poisson(1.3))):
        z = camera.z + rng.uniform(4, 30)
        x = float(rng.choice([-1, 1]) * (street.road_half + rng.uniform(0.3, street.pavement)))
        found.append(Thing(z, partial(paint_person, x=x, z=z, seed=_seed(rng), look=look)))
    return found


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
