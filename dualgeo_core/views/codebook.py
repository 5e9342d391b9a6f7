"""The codebook segmenter: k-means over mid-level features of a frozen encoder. It needs no model hub."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, fingerprint
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.tensors import read_tensors, write_tensors
from dualgeo_core.photos.photo_set import Photos, PhotoShard
from dualgeo_core.settings import SegmenterSettings
from dualgeo_core.views.batches import square_batches
from dualgeo_core.views.crop import LabelMaps
from dualgeo_core.views.encoder import Encoder
from dualgeo_core.views.label_maps import most_likely

CODEBOOK = "codebook.safetensors"
CELLS_PER_PHOTO = 64  # cells of one photo are similar, so many photos with few cells each are more informative


class Codebook:
    """A segmenter that assigns each pixel to its nearest k-means centre. An id means the same in every photo.

    The class depends only on the pixel's features, not on its position in the photo.
    """

    def __init__(self, settings: SegmenterSettings, encoder: Encoder, folder: Path) -> None:
        path = folder / CODEBOOK
        weights = read_tensors(path, remedy="run the step segmenter again")
        self.classes = len(weights["bias"])
        self.fingerprint = fingerprint(
            "codebook",
            encoder.fingerprint,
            settings.mask_size,
            [settings.codebook_classes, settings.codebook_photos, settings.codebook_seed],
            file_digest(path),
        )
        self._settings, self._encoder = settings, encoder
        self._weight_kc11, self._bias_k = weights["weight"][:, :, None, None], weights["bias"]

    def segment(self, images: Sequence[Image.Image]) -> LabelMaps:
        scores_bkhw = functional.conv2d(self._encoder.mid_level(images), self._weight_kc11, self._bias_k)
        return most_likely(scores_bkhw, self._settings.mask_size)


def fit_codebook(
    settings: SegmenterSettings, encoder: Encoder, *, photos: Photos, folder: Path, progress: Progress = silent
) -> None:
    """Fits the codebook on a seeded sample of photos and writes it. The same sample and seed give the same ids.

    Features are standardised per channel. The nearest centre c of a feature z has the highest score z·c - |c|²/2, so
    centres and standardisation are stored as one weight vector and one bias per class. Raises InputError if there are
    fewer features than classes.
    """
    features_nc = _sample_features(settings, encoder, photos, progress)
    if len(features_nc) < settings.codebook_classes:
        raise InputError(
            f"{photos.folder} has too few photos for segmenter.codebook_classes = {settings.codebook_classes}: lower it"
        )
    mean_c, std_c = features_nc.mean(axis=0), features_nc.std(axis=0) + 1e-6
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(
        n_clusters=settings.codebook_classes, batch_size=4096, n_init=3, random_state=settings.codebook_seed
    )
    centres_kc = kmeans.fit((features_nc - mean_c) / std_c).cluster_centers_.astype(np.float32)
    weight_kc = centres_kc / std_c
    bias_k = -(weight_kc @ mean_c) - (centres_kc**2).sum(axis=1) / 2
    write_tensors(folder / CODEBOOK, {"weight": torch.from_numpy(weight_kc), "bias": torch.from_numpy(bias_k)})


def _sample_features(
    settings: SegmenterSettings, encoder: Encoder, photos: Photos, progress: Progress
) -> NDArray[np.float32]:
    """Mid-level features of shape (n, c) at random cells of each sampled photo."""
    random = np.random.default_rng(settings.codebook_seed)
    count = min(settings.codebook_photos, len(photos))
    chosen = np.zeros(len(photos), dtype=bool)
    chosen[random.choice(len(photos), count, replace=False)] = True
    samples: list[NDArray[np.float32]] = []
    first = 0
    for shard in photos.shards():
        rows = np.flatnonzero(chosen[first : first + len(shard.ids)])
        first += len(shard.ids)
        part = PhotoShard(shard.name, [shard.ids[row] for row in rows], [shard.images[row] for row in rows])
        for images in square_batches(part, size=settings.image_size, batch_size=settings.batch_size):
            cells_bnc = encoder.mid_level(images).flatten(2).transpose(1, 2).numpy()
            samples.extend(random.permutation(cells_nc)[:CELLS_PER_PHOTO] for cells_nc in cells_bnc)
            progress("codebook", len(samples), count)
    return np.concatenate(samples)
