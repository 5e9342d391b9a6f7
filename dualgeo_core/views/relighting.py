"""Relighting: a photo as it might look in other light, weather and season. Places and shapes stay where they are.

Shapes: c colour channels, s pixels per side, h x w cells of the label map.
"""

import hashlib
import math

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from PIL import Image
from torch import Tensor
from torch.nn import functional

from dualgeo_core.settings import RelightingSettings
from dualgeo_core.views.crop import LabelMaps

LUMINANCE = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R BT.601
BLUR_PIXELS = (0.003, 0.012)  # standard deviation, as a share of the photo's side
LAMP_RADIUS = (0.008, 0.035)  # the same


def relight(
    image: Image.Image, label_map_hw: LabelMaps, *, photo_id: str, copy: int, settings: RelightingSettings
) -> Image.Image:
    """The square photo in other light. The result depends only on the arguments: each (id, copy) has its own light.

    At least one of region light, colour, veil and darkness is drawn. Blur is drawn apart, and noise is always added.
    `label_map_hw` gives the regions; it may be coarser than the photo.
    """
    random = _Random(photo_id, copy)
    image_css = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    regions, colour, veil, dark = _kinds(random, settings)
    if regions:
        image_css = _with_region_light(image_css, label_map_hw, random, settings)
    if colour:
        image_css = _with_other_colours(image_css, random, settings)
    if veil:
        image_css = _behind_a_veil(image_css, random, settings)
    if dark:
        image_css = _in_the_dark(image_css, random, settings)
    if random.happens(settings.blur):
        image_css = _blurred(image_css, random)
    image_css = image_css + random.uniform(0, settings.noise) * random.normal(*image_css.shape)
    pixels_ssc = (255 * image_css.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(pixels_ssc.contiguous().numpy())


class _Random:
    """Random numbers of one photo and copy."""

    def __init__(self, photo_id: str, copy: int) -> None:
        digest = hashlib.sha256(f"relight {copy} {photo_id}".encode()).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def happens(self, probability: float) -> bool:
        return self.uniform(0, 1) < probability

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def gain(self, spread: float, *shape: int) -> Tensor:
        return torch.exp(spread * self.normal(*shape))

    def field(self, spread: float, *, cells: int, side: int) -> Tensor:
        """A smooth gain (1, side, side) that varies over cells x cells."""
        noise_11cc = self.normal(1, 1, cells, cells)
        return torch.exp(spread * _enlarged(noise_11cc, side, mode="bicubic")[0])


def _kinds(random: _Random, settings: RelightingSettings) -> tuple[bool, bool, bool, bool]:
    """Which of region light, colour, veil and darkness are drawn: independently, until there is one."""
    while True:
        regions, colour, veil, dark = (
            random.happens(probability)
            for probability in (settings.regions, settings.colour, settings.veil, settings.dark)
        )
        if regions or colour or veil or dark:
            return regions, colour, veil, dark


def _with_region_light(
    image_css: Tensor, label_map_hw: LabelMaps, random: _Random, settings: RelightingSettings
) -> Tensor:
    """Gain, tint and offset per class; interpolation of the coarse map makes the borders soft."""
    classes = int(label_map_hw.max()) + 1
    gain_kc = random.gain(settings.region_gain, classes, 1) * random.gain(settings.region_tint, classes, 3)
    offset_k1 = settings.region_offset * random.normal(classes, 1)
    light_hw4 = torch.cat([gain_kc, offset_k1], dim=1)[torch.from_numpy(label_map_hw.astype(np.int64))]
    light_4ss = _enlarged(light_hw4.permute(2, 0, 1)[None], image_css.shape[-1], mode="bilinear")[0]
    return image_css * light_4ss[:3] + light_4ss[3:]


def _with_other_colours(image_css: Tensor, random: _Random, settings: RelightingSettings) -> Tensor:
    grey_1ss = (LUMINANCE * image_css).sum(dim=0, keepdim=True)
    coloured_css = grey_1ss + random.uniform(*settings.saturation) * (image_css - grey_1ss)
    coloured_css = coloured_css * random.gain(settings.channel_gain, 3, 1, 1)
    mean = coloured_css.mean()
    brightness = settings.brightness * random.normal()
    return mean + random.uniform(*settings.contrast) * (coloured_css - mean) + brightness


def _behind_a_veil(image_css: Tensor, random: _Random, settings: RelightingSettings) -> Tensor:
    opacity = random.uniform(*settings.veil_opacity)
    opacity_1ss = opacity * random.field(settings.veil_unevenness, cells=3, side=image_css.shape[-1])
    opacity_1ss = opacity_1ss.clamp(max=settings.veil_maximum)
    return (1 - opacity_1ss) * image_css + opacity_1ss * random.uniform(*settings.veil_grey)


def _in_the_dark(image_css: Tensor, random: _Random, settings: RelightingSettings) -> Tensor:
    low, high = settings.exposure
    exposure = math.exp(random.uniform(math.log(low), math.log(high)))
    side = image_css.shape[-1]
    light_1ss = exposure * random.field(settings.exposure_unevenness, cells=4, side=side)
    dark_css = image_css * light_1ss * random.gain(settings.dark_tint, 3, 1, 1)
    for _ in range(int(random.uniform(0, settings.lamps + 1))):
        dark_css = dark_css + _lamp(random, side)
    return dark_css


def _lamp(random: _Random, side: int) -> Tensor:
    """A small warm light (c, s, s)."""
    middle_s = (torch.arange(side) + 0.5) / side
    x_s, y_s = middle_s - random.uniform(0, 1), middle_s - random.uniform(0, 1)
    radius = random.uniform(*LAMP_RADIUS)
    glow_ss = torch.exp(-(y_s[:, None] ** 2 + x_s[None, :] ** 2) / (2 * radius**2))
    colour_c11 = torch.tensor([1.0, random.uniform(0.7, 1), random.uniform(0.3, 1)]).view(3, 1, 1)
    return random.uniform(0.4, 1) * colour_c11 * glow_ss


def _blurred(image_css: Tensor, random: _Random) -> Tensor:
    sigma = random.uniform(*BLUR_PIXELS) * image_css.shape[-1]
    reach = 2 * math.ceil(2 * sigma) + 1
    blurred: Tensor = gaussian_blur2d(image_css[None], (reach, reach), (sigma, sigma))[0]
    return blurred


def _enlarged(field_1chw: Tensor, side: int, *, mode: str) -> Tensor:
    return functional.interpolate(field_1chw, size=(side, side), mode=mode, align_corners=False)
