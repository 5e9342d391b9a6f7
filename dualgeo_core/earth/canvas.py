"""A camera and the layers of its picture: colour and shine, and the label, depth and sunlight of every pixel."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageChops, ImageDraw

from dualgeo_core.earth.geography import Rgb

CLASSES = (
    "sky",
    "mountain",
    "water",
    "ground",
    "road",
    "line",
    "sidewalk",
    "building",
    "roof",
    "window",
    "landmark",
    "vegetation",
    "sign",
    "pole",
    "vehicle",
    "person",
)
LABEL = {name: number for number, name in enumerate(CLASSES)}
SUPERSAMPLING = 2
NEAR_M = 0.6
DEPTH_SCALE_M = 120.0
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Position and orientation of the camera. Coordinates are metres: x right, y up, z along the street.

    Angles are radians; `focal` and `horizon` are shares of the picture's side.
    """

    size: int
    x: float
    y: float
    z: float
    yaw: float
    roll: float
    focal: float
    horizon: float

    def view(self, point: Point) -> Point:
        """The point in camera coordinates (metres)."""
        dx, dz = point[0] - self.x, point[2] - self.z
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return dx * cos - dz * sin, point[1] - self.y, dx * sin + dz * cos

    def pixel(self, view: Point) -> tuple[float, float]:
        """The pixel position, on the supersampled canvas, of a point in camera coordinates."""
        scale = self.size * SUPERSAMPLING
        right, up = self.focal * view[0] / view[2], self.focal * view[1] / view[2]
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        return scale * (0.5 + right * cos - up * sin), scale * (self.horizon - right * sin - up * cos)


@dataclass
class Canvas:
    """Two pictures: colour with shine in its alpha channel, and label, depth (0 near, 255 far) and sunlight."""

    camera: Camera
    colour: Image.Image = field(init=False)
    facts: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        side = self.camera.size * SUPERSAMPLING
        self.colour = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        self.facts = Image.new("RGB", (side, side), (LABEL["sky"], 255, 0))
        self._draw_colour = ImageDraw.Draw(self.colour)
        self._draw_facts = ImageDraw.Draw(self.facts)

    def paint(self, points: Iterable[Point], colour: Rgb, label: str, sun: float, shine: float = 0.0) -> None:
        """Paints a flat polygon. `sun` is the share of full sunlight that it receives, `shine` its light at night."""
        views = _clip([self.camera.view(point) for point in points])
        if len(views) < 3:
            return
        outline = [self.camera.pixel(view) for view in views]
        side = self.colour.width
        if max(x for x, _ in outline) < 0 or min(x for x, _ in outline) > side:
            return
        depth = sum(view[2] for view in views) / len(views)
        self._fill(outline, depth, colour, label, sun, shine)

    def blob(
        self,
        centre: Point,
        radius_m: float,
        height_m: float,
        colour: Rgb,
        label: str,
        sun: float,
        shine: float = 0.0,
    ) -> None:
        """Paints an ellipse that faces the camera, for example foliage, a head or a dome."""
        view = self.camera.view(centre)
        if view[2] < NEAR_M:
            return
        x, y = self.camera.pixel(view)
        scale = self.colour.width * self.camera.focal / view[2]
        box = (x - radius_m * scale, y - height_m * scale, x + radius_m * scale, y + height_m * scale)
        if box[2] < 0 or box[0] > self.colour.width:
            return
        self._draw_colour.ellipse(box, (*colour, int(255 * shine)))
        self._draw_facts.ellipse(box, (LABEL[label], _depth_code(view[2]), int(255 * sun)))

    def upright(
        self, base: Point, width_m: float, height_m: float, colour: Rgb, label: str, sun: float, shine: float = 0.0
    ) -> None:
        """Paints an upright rectangle that faces along the street. `base` is the middle of its lower edge."""
        x, y, z = base
        left, right, top = x - width_m / 2, x + width_m / 2, y + height_m
        self.paint([(left, y, z), (right, y, z), (right, top, z), (left, top, z)], colour, label, sun, shine)

    def shade(self, outlines: Sequence[Sequence[Point]]) -> None:
        """Removes sunlight inside the outlines from everything painted so far (shadows on the ground)."""
        shadow = Image.new("L", self.colour.size, 255)
        draw = ImageDraw.Draw(shadow)
        for outline in outlines:
            views = _clip([self.camera.view(point) for point in outline])
            if len(views) >= 3:
                draw.polygon([self.camera.pixel(view) for view in views], 0)
        label, depth, sun = self.facts.split()
        self.facts.paste(Image.merge("RGB", (label, depth, ImageChops.multiply(sun, shadow))))

    def _fill(
        self, outline: list[tuple[float, float]], depth: float, colour: Rgb, label: str, sun: float, shine: float
    ) -> None:
        self._draw_colour.polygon(outline, (*colour, int(255 * shine)))
        self._draw_facts.polygon(outline, (LABEL[label], _depth_code(depth), int(255 * sun)))


def _depth_code(depth_m: float) -> int:
    """A depth code from 0 at the camera to 254. Its resolution is higher at short distances, where fog changes most."""
    return int(254 * (1 - math.exp(-depth_m / DEPTH_SCALE_M)))


def _clip(views: list[Point]) -> list[Point]:
    """The part of a polygon that lies in front of the camera (Sutherland and Hodgman, one plane)."""
    if all(view[2] >= NEAR_M for view in views):
        return views
    kept: list[Point] = []
    for start, end in zip(views, views[1:] + views[:1], strict=True):
        if start[2] >= NEAR_M:
            kept.append(start)
        if (start[2] >= NEAR_M) != (end[2] >= NEAR_M):
            share = (NEAR_M - start[2]) / (end[2] - start[2])
            kept.append((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]), NEAR_M))
    return kept
