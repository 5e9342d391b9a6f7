"""Both views of every photo of a set, in the order of its frame, read lazily from memory-mapped files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dualgeo_core.base.artifacts import Record, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.shards import ShardKey
from dualgeo_core.base.tensors import read_tensors
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.views.label_maps import root_class_shares


class ViewBatch(NamedTuple):
    """pooled_bd and tokens_btd (float16), label_maps_bhw (uint8, label_grid x label_grid); on the CPU."""

    pooled_bd: torch.Tensor
    tokens_btd: torch.Tensor
    label_maps_bhw: torch.Tensor


@dataclass(frozen=True)
class Views:
    """The inputs of a model for a photo set. Row i belongs to `frame.iloc[i]`.

    `fingerprint` identifies these photos' views. `encoder`, `segmenter` and `label_grid` identify how views are
    computed, and must be the same for a gallery and its queries.
    """

    frame: pd.DataFrame
    fingerprint: str
    encoder: str
    segmenter: str
    label_grid: int
    classes: int
    width: int
    tokens_per_photo: int
    shards: tuple[ViewBatch, ...]  # memory-mapped: only rows that are taken are read
    shard_keys: tuple[ShardKey, ...]  # one per element of `shards`; identifies these photos' views

    def batch(self, rows: NDArray[np.int64]) -> ViewBatch:
        """The views of these rows in this order, read from disk. Rows may repeat and may come from several shards."""
        return ViewBatch(*(column.take(rows) for column in self._columns))

    def pooled(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The pooled vectors of these rows, as in `batch`."""
        return self._columns[ViewBatch._fields.index("pooled_bd")].take(rows)

    def class_shares(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The square roots of the classes' shares of the label maps of these rows, (n, classes)."""
        label_maps_bhw = self._columns[ViewBatch._fields.index("label_maps_bhw")].take(rows)
        return root_class_shares(label_maps_bhw, classes=self.classes)

    @cached_property
    def _columns(self) -> tuple["ShardedRows", ...]:
        return tuple(ShardedRows(parts) for parts in zip(*self.shards, strict=True))


def batch_in_light(lights: Sequence[Views], rows: NDArray[np.int64], light: NDArray[np.int64]) -> ViewBatch:
    """The views of these rows in this order, row i read from `lights[light[i]]`. All of `lights` have the same rows."""
    order = np.argsort(light, kind="stable")
    parts = [views.batch(rows[light == number]) for number, views in enumerate(lights) if (light == number).any()]
    back = torch.from_numpy(np.argsort(order))
    return ViewBatch(*(torch.cat(values)[back] for values in zip(*parts, strict=True)))


class ShardedRows:
    """The rows of a tensor whose consecutive parts are `shards`, in any order."""

    def __init__(self, shards: Sequence[torch.Tensor]) -> None:
        self._shards = [shard.numpy() for shard in shards]  # copies a row in a tenth of the time of a tensor's indexing
        self._first_rows = np.cumsum([0, *map(len, shards)])[:-1]

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """These rows, in this order. They may repeat. Reads only these rows."""
        rows = np.asarray(rows, dtype=np.int64)
        numbers = np.searchsorted(self._first_rows, rows, side="right") - 1
        places = zip(numbers.tolist(), (rows - self._first_rows[numbers]).tolist(), strict=True)
        taken = np.empty((len(rows), *self._shards[0].shape[1:]), dtype=self._shards[0].dtype)
        for row, (number, row_of_shard) in enumerate(places):
            taken[row] = self._shards[number][row_of_shard]
        return torch.from_numpy(taken)


def load_views(*, photos: Photos, features: Path, masks: Path, label_maps: Path) -> Views:
    """The views in these folders. Raises InputError if one of them has no record, or they differ in rows."""
    seen, labelled, gridded = (_require_record(folder) for folder in (features, masks, label_maps))
    keys = [key for key in photos.shard_keys if key.rows]
    names = [f"{key.name}.safetensors" for key in keys]
    shards = tuple(_view_batch(features / name, label_maps / name) for name in names)
    counts = [len(key.rows) for key in keys]
    if any([len(shard[field]) for shard in shards] != counts for field in range(len(ViewBatch._fields))):
        raise InputError(f"{features} and {label_maps} do not hold {len(photos)} rows each: run both steps again")
    made_from = [[seen.files[name].sha256, gridded.files[name].sha256] for name in names]
    return Views(
        frame=photos.frame,
        fingerprint=views_fingerprint(seen, gridded),
        encoder=seen.facts["encoder"],
        segmenter=labelled.facts["segmenter"],
        label_grid=gridded.facts["label_grid"],
        classes=labelled.facts["classes"],
        width=seen.facts["width"],
        tokens_per_photo=seen.facts["token_grid"] ** 2,
        shards=shards,
        shard_keys=tuple(
            key._replace(fingerprint=fingerprint(parts)) for key, parts in zip(keys, made_from, strict=True)
        ),
    )


def views_fingerprint(features: Record, label_maps: Record) -> str:
    """Of the bytes of a set's views."""
    return fingerprint(features.content, label_maps.content)


def _require_record(folder: Path) -> Record:
    record = read_record(folder)
    if record is None:
        raise InputError(f"{folder} is missing or unfinished: run the step {folder.parent.name} again")
    return record


def _view_batch(features: Path, label_maps: Path) -> ViewBatch:
    seen = read_tensors(features, remedy="run the step features again")
    return ViewBatch(
        pooled_bd=seen["pooled"],
        tokens_btd=seen["tokens"],
        label_maps_bhw=read_tensors(label_maps, remedy="run the step masks again")["label_maps"],
    )
