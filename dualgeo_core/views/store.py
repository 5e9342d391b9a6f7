"""Both views of every photo of a set, in the order of its frame, read lazily from memory-mapped files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_file, fingerprint
from dualgeo_core.base.shards import ShardKey, read_record
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.views.crop import resize_labels
from dualgeo_core.views.label_maps import decode_png


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
        return ViewBatch(*(self._take(rows, field) for field in range(len(ViewBatch._fields))))

    def pooled(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The pooled vectors of these rows, as in `batch`."""
        return self._take(rows, ViewBatch._fields.index("pooled_bd"))

    def _take(self, rows: NDArray[np.int64], field: int) -> torch.Tensor:
        return take_rows([shard[field] for shard in self.shards], rows)


def take_rows(shards: Sequence[torch.Tensor], rows: NDArray[np.int64]) -> torch.Tensor:
    """These rows, in this order, of the tensor whose consecutive parts are `shards`. Reads only these rows."""
    rows = np.asarray(rows, dtype=np.int64)
    first_rows = np.cumsum([0, *map(len, shards)])[:-1]
    shard_of_row = np.searchsorted(first_rows, rows, side="right") - 1
    order = np.argsort(shard_of_row, kind="stable")
    numbers, starts = np.unique(shard_of_row[order], return_index=True)
    pieces = [
        shards[number][torch.from_numpy(rows[positions] - first_rows[number])]
        for number, positions in zip(numbers, np.split(order, starts[1:]), strict=True)
    ]
    return torch.cat(pieces)[torch.from_numpy(np.argsort(order))]


@dataclass(frozen=True)
class ViewsRecord:
    """The records of a set's features and masks, without their shards."""

    features: dict[str, Any]
    masks: dict[str, Any]
    label_grid: int

    @classmethod
    def read(cls, *, photos: Photos, features_folder: Path, masks_folder: Path, label_grid: int) -> "ViewsRecord":
        """The records. Raises InputError if either folder was made from other photos or is unfinished."""
        features = read_record(features_folder, photos=photos.fingerprint, step="features")
        masks = read_record(masks_folder, photos=photos.fingerprint, step="masks")
        return cls(features=features, masks=masks, label_grid=label_grid)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of these photos' views."""
        return fingerprint(self.features["fingerprint"], self.masks["fingerprint"], self.label_grid)


def load_views(*, photos: Photos, features_folder: Path, masks_folder: Path, label_grid: int) -> Views:
    """The views in these folders. Raises InputError if either was made from other photos or is unfinished.

    The first call for a label grid decodes every PNG and stores the maps at that grid next to the PNGs, one byte per
    cell. Training then reads random rows from memory-mapped files and decodes no PNG again.
    """
    record = ViewsRecord.read(
        photos=photos, features_folder=features_folder, masks_folder=masks_folder, label_grid=label_grid
    )
    features, masks = record.features, record.masks
    shards = tuple(
        ViewBatch(*_features(path), _label_maps(masks_folder / f"{path.stem}.parquet", label_grid))
        for path in sorted(features_folder.glob("*.safetensors"))
    )
    keys = [key for key in photos.shard_keys if key.rows]
    counts = [len(key.rows) for key in keys]
    if any([len(shard[field]) for shard in shards] != counts for field in range(len(ViewBatch._fields))):
        raise InputError(
            f"{features_folder} and {masks_folder} do not hold {len(photos)} rows each: delete both folders and run "
            "the steps features and masks again"
        )
    recipe = [features["encoder"], masks["segmenter"], label_grid]
    return Views(
        frame=photos.frame,
        fingerprint=record.fingerprint,
        encoder=features["encoder"],
        segmenter=masks["segmenter"],
        label_grid=label_grid,
        classes=masks["classes"],
        width=features["width"],
        tokens_per_photo=features["token_grid"] ** 2,
        shards=shards,
        shard_keys=tuple(key._replace(fingerprint=fingerprint(key.fingerprint, recipe)) for key in keys),
    )


def _features(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    with safe_open(path, framework="pt") as file:  # maps the file; only rows that are taken are read
        return file.get_tensor("pooled"), file.get_tensor("tokens")


def _label_maps(masks_path: Path, label_grid: int) -> torch.Tensor:
    path = masks_path.parent / f"label_grid_{label_grid}" / f"{masks_path.stem}.safetensors"
    if not path.is_file():
        pngs = pq.read_table(masks_path, columns=["mask"])["mask"].to_pylist()
        maps = np.stack([resize_labels(np.asarray(decode_png(png)), label_grid) for png in pngs])
        with atomic_file(path) as temporary:
            save_file({"label_maps": torch.from_numpy(maps)}, temporary)
    with safe_open(path, framework="pt") as file:
        label_maps: torch.Tensor = file.get_tensor("label_maps")
        return label_maps
