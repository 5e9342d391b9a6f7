"""Both views of relit gallery photos, computed once per copy: one safetensors file per photo shard.

A relit copy of a gallery has the gallery's rows, so its `Views` take the place of the gallery's in training, in
retrieval (`Retriever.candidates(relit, rows)`) and in calibration.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from dualgeo_core.base.artifacts import Artifact, Record
from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.frames import read_parquet
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.shards import Advance, Engine, Keys, ShardKey, build_shards, in_this_process
from dualgeo_core.base.tensors import read_tensors, write_tensors
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import RelightingSettings
from dualgeo_core.views.batches import DECODERS, in_order, square_batches
from dualgeo_core.views.crop import LabelMaps, resize_labels
from dualgeo_core.views.encoder import Encoder
from dualgeo_core.views.label_maps import decode_png
from dualgeo_core.views.relighting import relight
from dualgeo_core.views.segmenter import Segmenter
from dualgeo_core.views.store import ViewBatch, Views

FILES = ("pooled", "tokens", "label_maps")  # the names of ViewBatch's tensors on disk


class Squares(NamedTuple):
    """Square photos with their ids and label maps."""

    ids: Sequence[str]
    images: Sequence[Image.Image]
    label_maps: Sequence[LabelMaps]


@dataclass(frozen=True)
class RelitEncoding:
    """How both views of a relit photo are computed; photos are relit at size x size pixels."""

    encoder: Encoder
    segmenter: Segmenter
    settings: RelightingSettings
    size: int
    batch_size: int
    label_grid: int

    def views(self, squares: Squares, copy: int) -> ViewBatch:
        """Both views of relit copy number `copy` of each photo."""
        images = [
            relight(image, label_map, photo_id=photo_id, copy=copy, settings=self.settings)
            for photo_id, image, label_map in zip(*squares, strict=True)
        ]
        encoded = self.encoder.encode(images)
        label_maps = resize_labels(self.segmenter.segment(images), self.label_grid)
        return ViewBatch(encoded.pooled_bd.half(), encoded.tokens_btd.half(), torch.from_numpy(label_maps))


@dataclass(frozen=True)
class RelitWriter:
    """Writes both views of relit copy number `copy` of a shard's photos, rows in the order of `photos.frame`."""

    photos: Photos
    masks: Path
    copy: int
    encoding: RelitEncoding
    workers: int = 1
    decoders: int = DECODERS

    def __call__(self, key: ShardKey, path: Path, advance: Advance) -> None:
        batches, done = list[ViewBatch](), 0
        size, batch_size = self.encoding.size, self.encoding.batch_size
        squares = _squares(self.photos, key, self.masks, size=size, batch_size=batch_size, decoders=self.decoders)
        views = partial(self.encoding.views, copy=self.copy)
        for batch in in_order(views, squares, workers=self.workers):
            batches.append(batch)
            done += len(batch.pooled_bd)
            advance(done)
        write_tensors(path, dict(zip(FILES, map(torch.cat, zip(*batches, strict=True)), strict=True)))


def build_relit_views(
    artifact: Artifact,
    writer: RelitWriter,
    *,
    masks_record: Record,
    engine: Engine = in_this_process,
    progress: Progress = silent,
) -> dict[str, int]:
    """Makes `artifact` of both views of a relit copy of every photo, one file per shard.

    Only new shards are computed, also after a kill. Returns the counts of `build_shards`.
    """
    encoding = writer.encoding
    masks_of = {name.removesuffix(".parquet"): digest.sha256 for name, digest in masks_record.files.items()}
    keys = [key for key in writer.photos.shard_keys if key.rows]
    return build_shards(
        artifact,
        source=Keys(tuple(key._replace(fingerprint=fingerprint(key.fingerprint, masks_of[key.name])) for key in keys)),
        shard_recipe=fingerprint(encoding.encoder.fingerprint, encoding.segmenter.fingerprint),
        suffix="safetensors",
        write=writer,
        facts={},
        engine=engine,
        progress=progress,
    )


def _squares(
    photos: Photos, key: ShardKey, masks: Path, *, size: int, batch_size: int, decoders: int
) -> Iterator[Squares]:
    shard = photos.shard(key.name)
    pngs = read_parquet(masks / f"{key.name}.parquet", columns=["mask"], remedy="run the step masks again")["mask"]
    start = 0
    for images in square_batches(shard, size=size, batch_size=batch_size, decoders=decoders):
        batch = slice(start, start + len(images))
        yield Squares(shard.ids[batch], images, [np.asarray(decode_png(png)) for png in pngs[batch]])
        start = batch.stop


def load_relit_views(folder: Path, record: Record, *, gallery: Views) -> Views:
    """The views of a relit copy. Their rows, and what their ids mean, are the gallery's."""
    names = [f"{key.name}.safetensors" for key in gallery.shard_keys]
    files = [read_tensors(folder / name, remedy="run the step relit_views again") for name in names]
    return replace(
        gallery,
        fingerprint=record.content,
        shards=tuple(ViewBatch(*(file[name] for name in FILES)) for file in files),
        shard_keys=tuple(
            key._replace(fingerprint=record.files[name].sha256)
            for key, name in zip(gallery.shard_keys, names, strict=True)
        ),
    )
