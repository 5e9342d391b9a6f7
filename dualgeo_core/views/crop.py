"""The crop that a photo and its label map share: the centre square, resized."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LabelMaps = NDArray[np.uint8]  # (b, h, w) class ids


def square_crop(image: Image.Image, size: int) -> Image.Image:
    """The centre square of an upright photo at size x size pixels, resized with antialiasing (bicubic).

    A photo of that size is copied unchanged.
    """
    return image.resize((size, size), Image.Resampling.BICUBIC, box=_centre_square(image))


def square_crop_labels(label_map: Image.Image, size: int) -> Image.Image:
    """The same square of a map of class ids, resized by nearest neighbour because ids cannot be interpolated."""
    return label_map.resize((size, size), Image.Resampling.NEAREST, box=_centre_square(label_map))


def resize_labels(label_maps_bhw: LabelMaps, size: int) -> LabelMaps:
    """Square label maps at size x size, by nearest neighbour (the id under the centre of each new pixel)."""
    side = label_maps_bhw.shape[-1]
    nearest = (2 * np.arange(size) + 1) * side // (2 * size)
    return label_maps_bhw[..., nearest[:, None], nearest]


def _centre_square(image: Image.Image) -> tuple[int, int, int, int]:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side
