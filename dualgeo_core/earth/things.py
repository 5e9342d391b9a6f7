"""Objects on a street of the synthetic Earth: buildings, trees, landmarks, signs, vehicles and people."""

import math
from dataclasses import dataclass

import numpy as np

from dualgeo_core.earth.canvas import Canvas, Point
from dualgeo_core.earth.geography import Country, Rgb
from dualgeo_core.earth.light import Conditions

SNOW: Rgb = (238, 242, 248)

# Parts of each landmark: shape, then width, bottom and top as shares of the height, and relative brightness.
LANDMARKS: dict[str, tuple[tuple[str, float, float, float, float], ...]] = {
    "spire": (("box", 0.26, 0, 0.6, 1), ("peak", 0.3, 0.58, 1, 0.7), ("ball", 0.11, 0.44, 0.55, 1.8)),
    "dome": (("box", 0.02, 0.7, 1, 1.4), ("ball", 0.4, 0.14, 0.82, 0.7), ("box", 0.5, 0, 0.46, 1)),
    "minaret": (("box", 0.12, 0, 0.8, 1), ("box", 0.19, 0.6, 0.65, 0.7), ("peak", 0.12, 0.8, 1, 0.7)),
    "pagoda": tuple(
        part
        for level in range(4)
        for part in (
            ("box", 0.24 - 0.04 * level, 0.22 * level, 0.22 * level + 0.2, 1.0),
            ("peak", 0.42 - 0.07 * level, 0.22 * level + 0.15, 0.22 * level + 0.32, 0.7),
        )
    ),
    "tower": (("box", 0.16, 0, 1, 1), *(("box", 0.13, n / 6, n / 6 + 0.07, 0.7) for n in range(6))),
    "globe": (("peak", 0.12, 0, 1, 1), ("ball", 0.26, 0.5, 0.76, 0.8), ("box", 0.3, 0.61, 0.65, 1.2)),
    "mast": (("peak", 0.2, 0, 1, 1), ("box", 0.12, 0.62, 0.68, 0.7)),
}

# Made-up letters that resemble a script: strokes (left, bottom, right, top) of all letters, and of some letters.
Strokes = tuple[tuple[float, float, float, float], ...]
STROKES: dict[str, tuple[Strokes, Strokes]] = {
    "latin": (((0, 0, 0.18, 1),), ((0, 0, 0.6, 0.15), (0, 0.43, 0.6, 0.58), (0, 0.85, 0.6, 1), (0.5, 0, 0.7, 0.6))),
    "cyrillic": (((0, 0, 0.18, 1), (0.62, 0, 0.8, 1)), ((0, 0.84, 0.8, 1), (0, 0.42, 0.8, 0.58))),
    "arabic": (((0, 0.25, 1.2, 0.4),), ((0.2, 0.4, 0.36, 1), (0.4, 0, 0.55, 0.14), (0.7, 0.7, 0.85, 0.84))),
    "han": (((0.45, 0, 0.58, 1), (0, 0.45, 1, 0.57)), ((0, 0.1, 1, 0.22), (0, 0.85, 1, 0.97), (0, 0, 0.12, 0.9))),
    "kana": (((0, 0.8, 1, 0.92),), ((0.45, 0, 0.58, 1), (0, 0.3, 0.9, 0.42), (0.75, 0.2, 0.88, 0.8))),
    "hangul": (((0, 0.55, 0.5, 0.95), (0.7, 0.3, 0.82, 1)), ((0.1, 0, 0.8, 0.14), (0.82, 0.6, 1, 0.72))),
    "devanagari": (((0, 0.82, 1.3, 0.95), (0.6, 0, 0.72, 0.9)), ((0.1, 0.25, 0.6, 0.4), (0.1, 0.5, 0.6, 0.65))),
    "brahmic": (((0.1, 0.1, 0.8, 0.25), (0.65, 0.1, 0.8, 0.8)), ((0.1, 0.1, 0.25, 0.7), (0.3, 0.85, 0.6, 1))),
    "hebrew": (((0, 0.8, 0.8, 1), (0.62, 0, 0.8, 1)), ((0, 0, 0.8, 0.18), (0, 0, 0.18, 0.6))),
    "greek": (((0.3, 0, 0.45, 1),), ((0, 0.55, 0.8, 0.7), (0, 0, 0.8, 0.14), (0, 0.86, 0.8, 1))),
    "caucasian": (((0.1, 0, 0.25, 0.8), (0.6, 0.2, 0.75, 1)), ((0.1, 0, 0.75, 0.14), (0.1, 0.5, 0.75, 0.62))),
}


@dataclass(frozen=True)
class Look:
    """Light and snow on surfaces under given conditions."""

    conditions: Conditions

    @property
    def towards_sun(self) -> Point:
        altitude, bearing = math.radians(self.conditions.sun_altitude), math.radians(self.conditions.sun_bearing)
        return math.cos(altitude) * math.sin(bearing), math.sin(altitude), math.cos(altitude) * math.cos(bearing)

    def sun_on(self, normal: Point) -> float:
        """The share of full sunlight on a surface with this normal."""
        return min(1.0, max(0.0, sum(a * b for a, b in zip(normal, self.towards_sun, strict=True))))

    @property
    def facing(self) -> float:
        """The share of full sunlight on surfaces that face the camera."""
        return 0.25 + 0.75 * self.sun_on((0.0, 0.3, -0.95))

    def shadow_of(self, x: float, z: float, width_m: float, height_m: float) -> list[Point]:
        """The outline on the ground of an upright object's shadow."""
        sx, sy, sz = self.towards_sun
        length = min(45.0, height_m / max(0.05, sy / max(1e-6, math.hypot(sx, sz))))
        across = math.hypot(sx, sz) or 1.0
        dx, dz = -sx / across * length, -sz / across * length
        nx, nz = -dz / (length or 1) * width_m / 2, dx / (length or 1) * width_m / 2
        near, far = (x - nx, 0.02, z - nz), (x + nx, 0.02, z + nz)
        return [near, far, (far[0] + dx, 0.02, far[2] + dz), (near[0] + dx, 0.02, near[2] + dz)]


@dataclass(frozen=True)
class Building:
    """A building. Its street face is at `x`, from `z` to `z + length`; it extends `depth` away from the street."""

    x: float
    z: float
    length: float
    depth: float
    height: float
    wall: Rgb
    roof: str
    window: tuple[float, float]
    storey: float
    seed: int


def shaded(colour: Rgb, factor: float) -> Rgb:
    """The colour with its brightness multiplied by `factor`."""
    red, green, blue = (min(255, max(0, int(channel * factor))) for channel in colour)
    return red, green, blue


def paint_building(canvas: Canvas, *, building: Building, country: Country, look: Look) -> None:
    """Paints the end that faces the camera, the street face with its windows, and the roof."""
    side = -1.0 if building.x < 0 else 1.0
    x, far_x, near, far, top = (
        building.x,
        building.x + side * building.depth,
        building.z,
        building.z + building.length,
        building.height,
    )
    street_sun, end_sun = look.sun_on((-side, 0, 0)), look.sun_on((0, 0, -1))
    canvas.paint(
        [(x, 0, near), (far_x, 0, near), (far_x, top, near), (x, top, near)], building.wall, "building", end_sun
    )
    canvas.paint([(x, 0, near), (x, 0, far), (x, top, far), (x, top, near)], building.wall, "building", street_sun)
    _paint_roof(canvas, building, country, look, far_x)
    if near < 75:
        _paint_windows(canvas, building, look, street_sun)


def _paint_roof(canvas: Canvas, building: Building, country: Country, look: Look, far_x: float) -> None:
    x, near, far, top = building.x, building.z, building.z + building.length, building.height
    colour = SNOW if look.conditions.snow_cover else country.roof_colour
    side = -1.0 if x < 0 else 1.0
    middle, rise = (x + far_x) / 2, min(4.0, building.depth * 0.4)
    eave = x - side * (0.9 if building.roof == "curved" else 0.4)
    sun = look.sun_on((-side * 0.6, 0.8, 0))
    if building.roof == "flat":
        band = [(x, top, near), (x, top, far), (x, top + 0.7, far), (x, top + 0.7, near)]
        canvas.paint(band, shaded(colour, 0.9), "roof", look.sun_on((-side, 0, 0)))
        front = [(x, top, near), (far_x, top, near), (far_x, top + 0.7, near), (x, top + 0.7, near)]
        canvas.paint(front, shaded(colour, 0.9), "roof", look.sun_on((0, 0, -1)))
        return
    inset = building.length * 0.22 if building.roof == "hip" else 0.0
    end_label = "roof" if building.roof in ("hip", "curved") else "building"
    end_colour = colour if end_label == "roof" else building.wall
    gable = [(x, top, near), (far_x, top, near), (middle, top + rise, near + inset)]
    canvas.paint(gable, end_colour, end_label, look.sun_on((0, 0.3, -0.9)))
    slope = [(eave, top - 0.2, near), (eave, top - 0.2, far), (middle, top + rise, far - inset)]
    canvas.paint([*slope, (middle, top + rise, near + inset)], colour, "roof", sun)
    if building.roof == "curved":
        tip = [(eave, top - 0.2, near), (eave - side * 0.8, top + 0.9, near - 0.6), (eave, top - 0.2, near + 1.5)]
        canvas.paint(tip, shaded(colour, 0.7), "roof", sun)


def _paint_windows(canvas: Canvas, building: Building, look: Look, sun: float) -> None:
    rng = np.random.default_rng(building.seed)
    side = -1.0 if building.x < 0 else 1.0
    storeys = min(9, int(building.height / building.storey))
    columns = max(1, int(building.length / (2.4 if building.z < 35 else 4.0)))
    width, height = building.length / columns, building.storey
    glass = shaded((70, 85, 105), 0.7 + 0.6 * rng.random())
    lit = rng.random((storeys, columns)) < 0.45
    # Windows protrude from the wall by 5 cm.
    x = building.x - side * 0.05
    for storey in range(storeys):
        for column in range(columns):
            near = building.z + (column + 0.5 - building.window[0] / 2) * width
            far = near + building.window[0] * width
            low = (storey + 0.55 - building.window[1] / 2) * height
            high = low + building.window[1] * height
            shining = bool(look.conditions.night and lit[storey, column])
            colour = (250, 205, 120) if shining else glass
            outline = [(x, low, near), (x, low, far), (x, high, far), (x, high, near)]
            canvas.paint(outline, colour, "window", sun * 0.6, 0.85 if shining else 0.0)


def paint_tree(canvas: Canvas, *, kind: str, base: Point, height: float, seed: int, leaves: Rgb, look: Look) -> None:
    """Paints a tree, shrub or cactus. The kind `bare` is a tree without leaves."""
    rng = np.random.default_rng(seed)
    x, _, z = base
    sun = look.facing
    if kind == "shrub":
        canvas.blob((x, height * 0.12, z), height * 0.22, height * 0.16, leaves, "vegetation", sun)
        return
    trunk = 0.07 * height if kind != "cactus" else 0.1 * height
    canvas.upright(base, trunk if kind != "palm" else 0.045 * height, height * 0.62, (92, 72, 54), "vegetation", sun)
    if kind == "conifer":
        for level in range(3):
            low, wide = height * (0.12 + 0.26 * level), height * (0.24 - 0.06 * level)
            tone = SNOW if look.conditions.snow_cover and level else shaded(leaves, 0.8 + 0.12 * level)
            canvas.paint([(x - wide, low, z), (x + wide, low, z), (x, low + height * 0.42, z)], tone, "vegetation", sun)
    elif kind == "palm":
        crown = height * 0.86
        canvas.upright(base, 0.045 * height, crown, (120, 98, 72), "vegetation", sun)
        for turn in np.linspace(0, 2 * np.pi, 9, endpoint=False) + rng.uniform(0, 1):
            reach, drop = height * 0.34 * math.cos(turn), height * (0.1 * math.sin(turn) - 0.08)
            middle = (x + reach * 0.55, crown + max(0.02, drop + 0.16 * height * 0.9), z)
            canvas.paint([(x, crown, z), middle, (x + reach, crown + drop, z)], leaves, "vegetation", sun)
    elif kind == "cactus":
        canvas.upright(base, trunk, height * 0.8, leaves, "vegetation", sun)
        for side in (-1, 1):
            arm = (x + side * height * 0.16, height * 0.3, z)
            canvas.upright(arm, trunk * 0.8, height * 0.35, leaves, "vegetation", sun)
            canvas.upright(
                (x + side * height * 0.08, height * 0.3, z), height * 0.18, 0.08 * height, leaves, "vegetation", sun
            )
    elif kind == "bare":
        for _ in range(14):
            tip = (x + rng.normal(0, 0.2) * height, height * rng.uniform(0.6, 1.0), z)
            fork = height * rng.uniform(0.3, 0.6)
            canvas.paint([(x, fork, z), (x + 0.04 * height, fork, z), tip], leaves, "vegetation", sun)
    else:
        for _ in range(7):
            dx, dy = rng.normal(0, 0.13), rng.normal(0, 0.09)
            tone = shaded(leaves, rng.uniform(0.75, 1.2))
            centre = (x + dx * height, height * (0.7 + dy), z)
            canvas.blob(centre, height * 0.19, height * 0.16, tone, "vegetation", sun)


def paint_landmark(canvas: Canvas, kind: str, base: Point, height: float, colour: Rgb, look: Look) -> None:
    """Paints a landmark, floodlit at night."""
    x, _, z = base
    sun, shine = look.facing, 0.55 if look.conditions.night else 0.0
    for shape, width, low, high, tone in LANDMARKS[kind]:
        half, bottom, top, paint = width * height / 2, low * height, high * height, shaded(colour, tone)
        if shape == "ball":
            middle = (x, (bottom + top) / 2, z)
            canvas.blob(middle, half, (top - bottom) / 2, paint, "landmark", sun, shine)
        else:
            crown = [(x, top, z)] if shape == "peak" else [(x + half, top, z), (x - half, top, z)]
            canvas.paint([(x - half, bottom, z), (x + half, bottom, z), *crown], paint, "landmark", sun, shine)


def paint_lamp(canvas: Canvas, *, x: float, z: float, country: Country, look: Look) -> None:
    """Paints a street lamp on a pole of the country's height, with wires if the country has them."""
    height, grey, sun = country.pole_height_m, (96, 92, 88), look.facing
    canvas.upright((x, 0, z), 0.18, height, grey, "pole", sun)
    arm = -math.copysign(1.1, x)
    canvas.paint([(x, height, z), (x + arm, height, z), (x + arm, height - 0.15, z)], grey, "pole", sun)
    canvas.blob((x + arm, height - 0.1, z), 0.28, 0.16, (255, 232, 170), "pole", 0.5, float(look.conditions.night))
    if country.wires:
        canvas.upright((x, height - 0.6, z), 1.9, 0.14, (80, 66, 52), "pole", sun)


def paint_sign(
    canvas: Canvas, *, centre: Point, size: tuple[float, float], board: Rgb, country: Country, seed: int, look: Look
) -> None:
    """Paints a sign on a post, with one line in the country's script."""
    (x, y, z), (width, height) = centre, size
    sun = look.facing
    canvas.upright((x, 0, z + 0.05), 0.12, y, (120, 122, 126), "pole", sun)
    shine = 0.5 if look.conditions.night else 0.0
    ink: Rgb = (245, 245, 240) if sum(board) < 420 else (25, 30, 45)
    if country.sign_shape == "round" and width < 1.3:
        canvas.blob(centre, width / 2, width / 2, board, "sign", sun, shine)
    elif country.sign_shape == "triangle" and width < 1.3:
        corners = [(x - width / 2, y - height / 2, z), (x + width / 2, y - height / 2, z), (x, y + height / 2, z)]
        canvas.paint(corners, board, "sign", sun, shine)
    else:
        canvas.upright((x, y - height / 2, z), width, height, board, "sign", sun, shine)
    glyph, count = height * 0.55, max(2, int(width / (height * 0.5)))
    always, sometimes = STROKES[country.script]
    rng = np.random.default_rng(seed)
    for number in range(count):
        left, low = x - width * 0.42 + number * width * 0.84 / count, y - glyph / 2
        for x0, y0, x1, y1 in (*always, *(stroke for stroke in sometimes if rng.random() < 0.5)):
            square = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
            stroke = [(left + across * glyph * 0.75, low + up * glyph, z) for across, up in square]
            canvas.paint(stroke, ink, "sign", sun, shine)


def paint_vehicle(canvas: Canvas, *, x: float, z: float, colour: Rgb, tall: bool, oncoming: bool, look: Look) -> None:
    """Paints a car or a bus, seen from behind or from the front."""
    width, height, length = (2.4, 2.9, 8.0) if tall else (1.8, 1.4, 4.2)
    sun, side = look.facing, (1.0 if x < canvas.camera.x else -1.0) * width / 2
    body = [(x + side, 0.3, z), (x + side, 0.3, z + length), (x + side, height * 0.65, z + length)]
    canvas.paint([*body, (x + side, height * 0.65, z)], shaded(colour, 0.8), "vehicle", look.sun_on((side, 0, 0)))
    for wheel in (-0.36, 0.36):
        canvas.upright((x + wheel * width, 0, z), width * 0.2, 0.45, (22, 22, 24), "vehicle", 0.3)
    canvas.upright((x, height, z + 0.4), width * 0.85, 0.06, shaded(colour, 1.1), "vehicle", sun)
    canvas.upright((x, 0.3, z), width, height * 0.45, colour, "vehicle", sun)
    canvas.upright((x, 0.3 + height * 0.45, z + 0.2), width * 0.85, height * 0.35, (50, 60, 72), "vehicle", sun)
    lamp: Rgb = (255, 245, 210) if oncoming else (225, 40, 30)
    for lamp_x in (-0.38, 0.38):
        shine = 1.0 if look.conditions.night else 0.3
        canvas.upright((x + lamp_x * width, 0.55, z - 0.02), width * 0.14, 0.2, lamp, "vehicle", sun, shine)


def paint_person(canvas: Canvas, *, x: float, z: float, seed: int, look: Look) -> None:
    """Paints a person on the pavement."""
    rng = np.random.default_rng(seed)
    height, sun = rng.uniform(1.5, 1.9), look.facing
    coat = (int(rng.integers(30, 230)), int(rng.integers(30, 200)), int(rng.integers(30, 200)))
    for leg in (-0.1, 0.1):
        canvas.upright((x + leg, 0, z), 0.15, height * 0.48, (40, 42, 60), "person", sun)
    canvas.upright((x, height * 0.45, z), 0.48, height * 0.4, coat, "person", sun)
    skin = int(rng.integers(90, 215))
    canvas.blob((x, height * 0.92, z), 0.13, 0.16, (skin, int(skin * 0.78), int(skin * 0.62)), "person", sun)
