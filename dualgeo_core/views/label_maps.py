"""Label maps: computed from class scores, converted to and from PNG, and compared with true maps."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from dualgeo_core.base.errors import InputError
from dualgeo_core.views.crop import LabelMaps

MAX_CLASSES = 256  # a map is one byte per pixel


def most_likely(scores_bchw: torch.Tensor, size: int) -> LabelMaps:
    """The most likely class of each pixel at size x size. Scores are interpolated, not class ids."""
    resized = functional.interpolate(scores_bchw.float(), size=(size, size), mode="bilinear", align_corners=False)
    return resized.argmax(dim=1).to(torch.uint8).cpu().numpy()


def encode_png(label_map_hw: LabelMaps) -> bytes:
    """A one-channel PNG whose pixel values are the class ids."""
    buffer = io.BytesIO()
    Image.fromarray(label_map_hw).save(buffer, "PNG")
    return buffer.getvalue()


def decode_png(data: bytes) -> Image.Image:
    """The map as a one-channel image. Raises InputError if the PNG has colours, a palette or an alpha channel."""
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    if image.mode != "L":
        raise InputError(f"a label map must be a one-channel 8-bit PNG of class ids; this one has mode {image.mode}")
    return image


def iou_by_class(label_maps_bhw: LabelMaps, true_label_maps_bhw: LabelMaps, classes: int) -> NDArray[np.float64]:
    """Intersection over union of each class over all pixels; NaN for a class that neither map contains."""
    pairs = label_maps_bhw.astype(np.int64).ravel() * classes + true_label_maps_bhw.ravel()
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    intersection = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), np.nan)


def root_class_shares(label_maps_bhw: torch.Tensor, *, classes: int) -> torch.Tensor:
    """The square root of each class's share of each label map, (b, classes), float16."""
    labels_bp = label_maps_bhw.flatten(1).long()
    counts_bc = torch.zeros(len(labels_bp), classes).scatter_add_(1, labels_bp, torch.ones(labels_bp.shape))
    return (counts_bc / labels_bp.shape[1]).sqrt().half()


def mean_iou(label_maps_bhw: LabelMaps, true_label_maps_bhw: LabelMaps, classes: int) -> float:
    """The mean of `iou_by_class` over the classes that occur."""
    return float(np.nanmean(iou_by_class(label_maps_bhw, true_label_maps_bhw, classes)))
