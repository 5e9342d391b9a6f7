"""Segmenters: a SegFormer checkpoint, or the codebook. Both give each pixel of a square photo a class id."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from dualgeo_core.base.artifacts import Artifact, new_artifact, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import EncoderSettings, SegmenterSettings
from dualgeo_core.views.codebook import Codebook, fit_codebook
from dualgeo_core.views.crop import LabelMaps, square_crop
from dualgeo_core.views.encoder import Encoder, load_encoder, weights_digest
from dualgeo_core.views.label_maps import MAX_CLASSES, most_likely
from dualgeo_core.views.segformer import load_segformer

CODE_VERSION = 1  # increase it when the same settings and weights give different label maps


class Segmenter(Protocol):
    """A model that gives class ids 0 .. classes - 1. Equal fingerprints mean that the ids have the same meaning."""

    classes: int
    fingerprint: str

    def segment(self, images: Sequence[Image.Image]) -> LabelMaps:
        """Class ids of shape (b, mask_size, mask_size) for upright RGB photos, cropped as by `square_crop`."""


class SegFormer:
    """Any SegFormer checkpoint in transformers' format."""

    def __init__(self, settings: SegmenterSettings, device: torch.device | str) -> None:
        model, self.class_names, mean, std = load_segformer(settings.name, settings.revision)
        self.classes = len(self.class_names)
        if self.classes > MAX_CLASSES:
            raise InputError(
                f"segmenter {settings.name} has {self.classes} classes; choose one with at most {MAX_CLASSES}"
            )
        self.fingerprint = fingerprint(
            "segformer",
            CODE_VERSION,
            settings.image_size,
            settings.mask_size,
            [mean, std],
            weights_digest(model),
        )
        self._settings = settings
        self._device = torch.device(device)
        self._model = model.eval().requires_grad_(False).to(self._device)
        self._mean = 255 * torch.tensor(mean, device=self._device).view(1, 3, 1, 1)
        self._std = 255 * torch.tensor(std, device=self._device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def segment(self, images: Sequence[Image.Image]) -> LabelMaps:
        squares_bhwc = np.stack([np.asarray(square_crop(image, self._settings.image_size)) for image in images])
        pixels_bchw = torch.from_numpy(squares_bhwc).to(self._device).permute(0, 3, 1, 2).float()
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._device.type == "cuda"):
            scores_bchw = self._model((pixels_bchw - self._mean) / self._std)
        return most_likely(scores_bchw, self._settings.mask_size)


def fit_segmenter(
    artifact: Artifact,
    *,
    settings: SegmenterSettings,
    encoder_settings: EncoderSettings,
    photos: Photos,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Segmenter:
    """Makes `artifact` the segmenter of a profile: a checkpoint's reference, or the codebook of these (gallery) photos.

    A current artifact with unchanged weights is kept while all shards it was fitted on are in the set: a gallery that
    grows keeps the meaning of its class ids.
    """
    encoder = _codebook_encoder(settings, encoder_settings, device)
    if artifact.is_current() and _fitted_on(artifact.path, photos):
        segmenter = _open(settings, encoder, artifact.path, device)
        record = read_record(artifact.path)
        if record is not None and record.facts["fingerprint"] == segmenter.fingerprint:
            return segmenter
    facts: dict[str, Any] = {}
    with new_artifact(artifact, facts) as folder:
        if encoder:
            fit_codebook(settings, encoder, photos=photos, folder=folder, progress=progress)
        segmenter = _open(settings, encoder, folder, device)
        facts |= {
            "fingerprint": segmenter.fingerprint,
            "kind": settings.kind,
            "name": settings.name if settings.kind == "segformer" else encoder_settings.name,
            "classes": segmenter.classes,
            "fitted_on": {key.name: key.fingerprint for key in photos.shard_keys},
        }
    return segmenter


def load_segmenter(
    settings: SegmenterSettings, encoder_settings: EncoderSettings, *, folder: Path, device: torch.device | str = "cpu"
) -> Segmenter:
    """The segmenter that `fit_segmenter` left in `folder`. Raises InputError if its weights have changed since."""
    segmenter = _open(settings, _codebook_encoder(settings, encoder_settings, device), folder, device)
    record = read_record(folder)
    if record is None or record.facts["fingerprint"] != segmenter.fingerprint:
        raise InputError(f"{folder} is not the segmenter of these settings and weights: run the step segmenter again")
    return segmenter


def _codebook_encoder(
    settings: SegmenterSettings, encoder_settings: EncoderSettings, device: torch.device | str
) -> Encoder | None:
    """The profile's encoder at the segmenter's own resolution, or None if the segmenter is a checkpoint."""
    if settings.kind != "codebook":
        return None
    return load_encoder(encoder_settings.model_copy(update={"image_size": settings.image_size}), device)


def _open(settings: SegmenterSettings, encoder: Encoder | None, folder: Path, device: torch.device | str) -> Segmenter:
    return Codebook(settings, encoder, folder) if encoder else SegFormer(settings, device)


def _fitted_on(folder: Path, photos: Photos) -> bool:
    record = read_record(folder)
    present = {key.name: key.fingerprint for key in photos.shard_keys}
    return record is not None and record.facts["fitted_on"].items() <= present.items()
