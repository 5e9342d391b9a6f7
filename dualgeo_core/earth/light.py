"""Turns painted layers into a photo: sky, sunlight, snow, weather, night, and the camera's imperfections."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dualgeo_core.earth.canvas import DEPTH_SCALE_M, LABEL, SUPERSAMPLING, Canvas

Pixels = NDArray[np.floating]
# Texture of each class: the relative variation of its brightness over small patches.
ROUGHNESS = np.zeros(256, np.float32)
for _label, _roughness in {"vegetation": 0.22, "ground": 0.14, "mountain": 0.12, "road": 0.05, "water": 0.18}.items():
    ROUGHNESS[LABEL[_label]] = _roughness
FLAT = np.zeros(256, bool)
FLAT[[LABEL[_label] for _label in ("ground", "water", "road", "line", "sidewalk")]] = True


@dataclass(frozen=True)
class Conditions:
    """Time and weather of a photo. Angles are degrees."""

    weather: str  # clear, cloudy, overcast, rain, fog, snow
    season: str
    day: float
    hour: float
    sun_altitude: float
    sun_bearing: float  # relative to the street
    snow_cover: bool

    @property
    def night(self) -> bool:
        return self.sun_altitude < -4

    @property
    def sunshine(self) -> float:
        """The share of direct sunlight that reaches the ground."""
        above = min(1.0, max(0.0, (self.sun_altitude + 1) / 8))
        return (
            above
            * {"clear": 1.0, "cloudy": 0.75, "overcast": 0.08, "rain": 0.03, "fog": 0.1, "snow": 0.05}[self.weather]
        )


@dataclass(frozen=True)
class Lens:
    """Properties of a photographer's camera and its settings for this photo."""

    white_balance: tuple[float, float, float]
    exposure: float
    contrast: float
    noise: float
    vignette: float
    blur: float
    jpeg_quality: int


def develop(canvas: Canvas, conditions: Conditions, lens: Lens, rng: np.random.Generator) -> tuple[bytes, bytes]:
    """The photo as JPEG and its true label map as PNG, aligned, both with `camera.size` pixels per side."""
    size = canvas.camera.size
    # Colour and alpha are reduced separately: Pillow would weight the colour by alpha, which is shine here.
    albedo = np.asarray(canvas.colour.convert("RGB").reduce(SUPERSAMPLING), np.float32) / 255
    shine = np.asarray(canvas.colour.getchannel("A").reduce(SUPERSAMPLING), np.float32)[..., None] / 255
    facts = np.asarray(canvas.facts)
    label = facts[::SUPERSAMPLING, ::SUPERSAMPLING, 0]
    small = np.asarray(canvas.facts.reduce(SUPERSAMPLING), np.float32) / 255
    depth, sun = small[..., 1], small[..., 2]
    coverage = 1 - np.asarray(
        canvas.facts.getchannel(0).point(lambda value: 255 if value == LABEL["sky"] else 0).reduce(SUPERSAMPLING),
        np.float32,
    )[..., None] / np.float32(255)
    sky, haze = _sky(canvas, conditions, rng)
    grain = 1 + ROUGHNESS[label] * (_patches(rng, size, size // 2) + 0.4 * _patches(rng, size, size // 8))
    albedo = albedo * grain[..., None]
    warm, ambient = _illumination(conditions)
    lit = albedo * (ambient + warm * sun[..., None])
    if conditions.night:
        lit = lit + albedo * _street_light(canvas)
    shining = albedo * shine * (1.0 if conditions.night else 0.15)
    photo = lit * (1 - shine * conditions.night) + shining
    thickness = {"fog": 5.0, "rain": 1.1, "snow": 1.6, "overcast": 0.35}.get(conditions.weather, 0.22)
    veil = (1 - np.exp(-thickness * _distance(canvas, label, depth) / 260))[..., None]
    photo = photo * (1 - veil) + haze * veil
    photo = photo * coverage + sky * (1 - coverage)
    photo = _weather(photo, label, conditions, rng)
    if conditions.night:
        photo = photo + _glow(shining)
    return _jpeg(_expose(photo, lens, rng), lens), _png(label)


def _distance(canvas: Canvas, label: NDArray[np.uint8], depth: Pixels) -> Pixels:
    """The distance of each pixel in metres, for flat land computed per row because it is one large polygon."""
    camera = canvas.camera
    metres = -DEPTH_SCALE_M * np.log(np.maximum(1e-3, 1 - depth))
    below = np.linspace(0, 1, camera.size, dtype=np.float32) - np.float32(camera.horizon)
    flat = np.minimum(800, camera.focal * camera.y / np.maximum(1e-3, below))[:, None]
    return np.where(FLAT[label], flat, metres).astype(np.float32)


def _sky(canvas: Canvas, conditions: Conditions, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """The sky's colour at every pixel, and the colour of haze."""
    size, altitude = canvas.camera.size, conditions.sun_altitude
    height = np.clip(canvas.camera.horizon - np.linspace(0, 1, size, dtype=np.float32), 0, 1)[:, None, None]
    if conditions.night:
        zenith, low = np.array([0.02, 0.03, 0.08]), np.array([0.15, 0.12, 0.13])
    elif conditions.weather in ("clear", "cloudy"):
        low_sun = float(np.clip(1 - altitude / 22, 0, 1))
        zenith = np.array([0.2, 0.42, 0.82]) * (1 - 0.45 * low_sun)
        low = np.array([0.72, 0.84, 0.95]) * (1 - low_sun) + np.array([0.98, 0.68, 0.42]) * low_sun
    else:
        grey = {"overcast": 0.72, "rain": 0.45, "fog": 0.78, "snow": 0.74}[conditions.weather]
        zenith, low = np.full(3, grey * 0.85) * [0.97, 1, 1.04], np.full(3, grey)
    sky = (low + (zenith - low) * np.minimum(1, height * 1.9) ** 0.8).astype(np.float32)
    sky = np.broadcast_to(sky, (size, size, 3)).copy()
    cover = {"clear": -1.1, "cloudy": 0.25, "overcast": 0.9, "rain": 0.9, "snow": 0.8, "fog": -2.0}[conditions.weather]
    clouds = _patches(rng, size, 5) + 0.5 * _patches(rng, size, 12) + 0.25 * _patches(rng, size, 30) + cover
    white = np.array([0.13, 0.12, 0.14]) if conditions.night else (low * 0.35 + 0.62 * low.max())
    opacity = np.clip(clouds, 0, 1)[..., None] * (0.85 if conditions.weather in ("clear", "cloudy") else 0.35)
    sky = sky * (1 - opacity) + white.astype(np.float32) * opacity
    if conditions.night and conditions.weather == "clear":
        sky[rng.random((size, size)) < 0.0015] = 0.8
    return sky.astype(np.float32), low.astype(np.float32)


def _illumination(conditions: Conditions) -> tuple[Pixels, Pixels]:
    """The colours of direct sunlight and of ambient light."""
    if conditions.night:
        return np.zeros(3, np.float32), np.array([0.13, 0.14, 0.21], np.float32)
    low_sun = float(np.clip(1 - conditions.sun_altitude / 25, 0, 1))
    sun = np.array([1.0, 0.97 - 0.22 * low_sun, 0.9 - 0.45 * low_sun]) * 0.72 * conditions.sunshine
    grey = {"overcast": 0.66, "rain": 0.46, "fog": 0.62, "snow": 0.66}.get(conditions.weather)
    ambient = np.full(3, grey) if grey else np.array([0.42, 0.46, 0.53]) * (1 - 0.35 * low_sun)
    return sun.astype(np.float32), ambient.astype(np.float32)


def _street_light(canvas: Canvas) -> Pixels:
    """The warm light of street lamps, strongest just below the horizon."""
    camera = canvas.camera
    rows = np.linspace(0, 1, camera.size, dtype=np.float32) - np.float32(camera.horizon)
    strength = np.exp(-(((rows - 0.08) / 0.28) ** 2))[:, None, None]
    return strength * np.array([0.4, 0.3, 0.17], np.float32)


def _weather(photo: Pixels, label: NDArray[np.uint8], conditions: Conditions, rng: np.random.Generator) -> Pixels:
    size = len(photo)
    if conditions.weather == "rain":
        wet = np.isin(label, [LABEL["road"], LABEL["sidewalk"], LABEL["line"]])
        photo[wet] = 0.6 * photo[wet] + 0.4 * photo[::-1][wet] * 0.8
        streaks = Image.fromarray((rng.random((size, size)) < 0.012).astype(np.uint8) * 255)
        streaks = streaks.filter(ImageFilter.Kernel((5, 5), [0, 0, 0, 1, 0] * 2 + [0, 0, 1, 0, 0] * 3, scale=4))
        photo = photo + 0.22 * np.asarray(streaks, np.float32)[..., None] / 255
    elif conditions.weather == "snow":
        flakes = Image.fromarray((rng.random((size, size)) < 0.012).astype(np.uint8) * 255)
        white = np.asarray(flakes.filter(ImageFilter.MaxFilter(3)), np.float32)[..., None] / 255
        photo = photo * (1 - 0.75 * white) + 0.72 * white
    return photo


def _glow(shining: Pixels) -> Pixels:
    """The glow around lamps and windows."""
    bright = Image.fromarray((np.clip(shining, 0, 1) * 255).astype(np.uint8))
    spread = np.asarray(bright.filter(ImageFilter.GaussianBlur(len(shining) / 18)), np.float32) / 255
    return spread * np.array([0.9, 0.75, 0.5], np.float32)


def _expose(photo: Pixels, lens: Lens, rng: np.random.Generator) -> Image.Image:
    size = len(photo)
    axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    photo = photo * np.array(lens.white_balance, np.float32) * np.float32(lens.exposure)
    photo = photo * (1 - lens.vignette * (axis[:, None] + axis) / 2)[..., None]
    photo = (photo - 0.5) * np.float32(lens.contrast) + 0.5
    photo = photo + rng.standard_normal(photo.shape, dtype=np.float32) * np.float32(lens.noise)
    image = Image.fromarray((np.clip(photo, 0, 1) * 255).round().astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(lens.blur)) if lens.blur > 0.3 else image


def _patches(rng: np.random.Generator, size: int, cells: int) -> Pixels:
    """Smooth noise with mean 0, mostly between -1 and 1, with `cells` patches per side."""
    coarse = Image.fromarray(rng.standard_normal((max(2, cells), max(2, cells)), dtype=np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _jpeg(image: Image.Image, lens: Lens) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=lens.jpeg_quality)
    return buffer.getvalue()


def _png(label: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(label)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
