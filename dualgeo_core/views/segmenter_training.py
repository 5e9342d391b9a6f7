"""Trains a tiny SegFormer on photos with true label maps, so that the demo needs no model hub."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_folder, write_json
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import SegmenterSettings
from dualgeo_core.views.batches import square_batches
from dualgeo_core.views.crop import LabelMaps, resize_labels, square_crop_labels
from dualgeo_core.views.label_maps import decode_png, iou_by_class, mean_iou
from dualgeo_core.views.segmenter import SegFormer

METRICS = "metrics.json"
BATCH_SIZE = 8
LEARNING_RATE = 2e-3
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Labelled(NamedTuple):
    """Photos with their true label maps, all as image_size squares, and the set's columns for each photo."""

    frame: pd.DataFrame
    pixels_nhwc: NDArray[np.uint8]
    labels_nhw: LabelMaps


def train_segmenter(
    *,
    photos: Photos,
    held_out: Photos,
    class_names: Sequence[str],
    settings: SegmenterSettings,
    folder: Path,
    epochs: int,
    seed: int,
    without: frozenset[str] = frozenset(),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Trains on `photos`, scores on `held_out`, writes checkpoint and scores to `folder`, and returns the scores.

    Both sets need a column `label_map` of true maps: PNGs of indices into `class_names`. Photos by the photographers in
    `without` are excluded. Raises InputError if a set has no `label_map` or no photos remain.
    """
    torch.manual_seed(seed)
    model = _tiny_segformer(class_names)
    training = read_labelled(photos, settings.image_size, without)
    _fit(model, training, settings=settings, epochs=epochs, seed=seed, progress=progress)
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        SegformerImageProcessorPil(
            do_reduce_labels=False, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
        ).save_pretrained(temporary)
        segmenter = SegFormer(settings.model_copy(update={"name": str(temporary)}), "cpu")
        scores = {
            "parameters": sum(weights.numel() for weights in model.parameters()),
            "trained_on": {
                "photos": len(training.frame),
                "photographers": training.frame["author"].nunique(),
                "epochs": epochs,
            },
            "held_out": score_segmenter(segmenter, read_labelled(held_out, settings.image_size, without), class_names),
        }
        write_json(temporary / METRICS, scores)
    return scores


def score_segmenter(segmenter: SegFormer, labelled: Labelled, class_names: Sequence[str]) -> dict[str, Any]:
    """Mean IoU at the segmenter's mask_size: over all photos, by condition and by class."""
    found_nhw = np.concatenate(
        [
            segmenter.segment([Image.fromarray(square) for square in labelled.pixels_nhwc[rows]])
            for rows in _batches(np.arange(len(labelled.frame)), 64)
        ]
    )
    true_nhw = resize_labels(labelled.labels_nhw, found_nhw.shape[-1])

    def score(rows: Any) -> float:
        return round(mean_iou(found_nhw[rows], true_nhw[rows], len(class_names)), 4)

    frame = labelled.frame
    return {
        "photos": len(frame),
        "photographers": frame["author"].nunique(),
        "mean_iou": score(slice(None)),
        "pixel_accuracy": round(float((found_nhw == true_nhw).mean()), 4),
        "mean_iou_by_condition": {
            f"{column}={value}": score(rows.to_numpy())
            for column in ("night", "weather", "season")
            if column in frame
            for value, rows in ((value, frame[column] == value) for value in sorted(frame[column].unique()))
        },
        "iou_by_class": {
            name: round(float(iou), 4)
            for name, iou in zip(class_names, iou_by_class(found_nhw, true_nhw, len(class_names)), strict=True)
            if np.isfinite(iou)
        },
    }


def read_labelled(photos: Photos, size: int, without: frozenset[str] = frozenset()) -> Labelled:
    """Photos of a set with their true label maps, in memory. Raises InputError if there are no maps or no photos."""
    squares: list[NDArray[np.uint8]] = []
    maps: list[NDArray[np.uint8]] = []
    if not photos.knows("label_map"):
        raise InputError(
            f"{photos.folder} has no column label_map: use a set with true label maps (`dualgeo ingest synthetic`)"
        )
    for truth in photos.shards("label_map"):
        maps.extend(np.asarray(square_crop_labels(decode_png(png), size)) for png in truth.images)
    for shard in photos.shards():
        for images in square_batches(shard, size=size, batch_size=64):
            squares.extend(np.asarray(image) for image in images)
    kept = ~photos.frame["author"].isin(without).to_numpy()
    if not kept.any():
        raise InputError(f"{photos.folder} has only photos of excluded photographers; use a larger set or another seed")
    return Labelled(photos.frame[kept], np.stack(squares)[kept], np.stack(maps)[kept])


def _tiny_segformer(class_names: Sequence[str]) -> SegformerForSemanticSegmentation:
    """A SegFormer smaller than MiT-B0: enough for drawings, and a few milliseconds per photo on one core."""
    config = SegformerConfig(
        hidden_sizes=[16, 32, 64, 96],
        depths=[1, 1, 2, 1],
        num_attention_heads=[1, 1, 2, 3],
        decoder_hidden_size=64,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
        id2label=dict(enumerate(class_names)),
        label2id={name: i for i, name in enumerate(class_names)},
    )
    return SegformerForSemanticSegmentation(config)


def _fit(
    model: SegformerForSemanticSegmentation,
    labelled: Labelled,
    *,
    settings: SegmenterSettings,
    epochs: int,
    seed: int,
    progress: Progress,
) -> None:
    """Minimises cross-entropy at the resolution of the stored maps, on photos mirrored and dimmed at random.

    Classes are weighted by the inverse square root of their share, so that rare classes count more.
    """
    random = np.random.default_rng(seed)
    labels_nhw = resize_labels(labelled.labels_nhw, settings.mask_size)
    shares = np.bincount(labels_nhw.ravel(), minlength=model.decode_head.classifier.out_channels) / labels_nhw.size
    weights = torch.from_numpy(np.minimum(1 / np.sqrt(shares + 1e-9), 30)).float()
    steps = epochs * -(-len(labels_nhw) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    model.train()
    step = 0
    for _ in range(epochs):
        for rows in _batches(random.permutation(len(labels_nhw)), BATCH_SIZE):
            pixels_bchw = torch.from_numpy(labelled.pixels_nhwc[rows]).permute(0, 3, 1, 2).float() / 255
            labels_bhw = torch.from_numpy(labels_nhw[rows]).long()
            if random.random() < 0.5:
                pixels_bchw, labels_bhw = pixels_bchw.flip(-1), labels_bhw.flip(-1)
            brightness = torch.from_numpy(random.uniform(0.7, 1.3, (len(rows), 1, 1, 1))).float()
            logits_bchw = model(pixel_values=((pixels_bchw * brightness).clamp(0, 1) - mean) / std).logits
            resized = functional.interpolate(
                logits_bchw, size=labels_bhw.shape[1:], mode="bilinear", align_corners=False
            )
            loss = functional.cross_entropy(resized, labels_bhw, weight=weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            progress("segmenter", step, steps)
    model.eval()


def _batches(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
