"""The label map of every photo of a set, computed once: PNGs of class ids, and the same at the model's grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyarrow.dataset import dataset

from dualgeo_core.base.artifacts import Artifact, read_record
from dualgeo_core.base.frames import read_parquet
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.shards import Advance, Engine, Keys, ShardKey, build_shards, in_this_process
from dualgeo_core.base.tensors import write_tensors
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import SegmenterSettings
from dualgeo_core.views.batches import DECODERS, in_order, square_batches
from dualgeo_core.views.crop import resize_labels
from dualgeo_core.views.label_maps import decode_png, encode_png
from dualgeo_core.views.segmenter import Segmenter

SUMMARISED_MASKS = 10_000


@dataclass(frozen=True)
class MaskWriter:
    """Writes the (id, mask) table of a shard, rows in the order of `photos.frame`."""

    photos: Photos
    segmenter: Segmenter
    settings: SegmenterSettings
    workers: int = 1
    decoders: int = DECODERS

    def __call__(self, key: ShardKey, path: Path, advance: Advance) -> None:
        shard, masks = self.photos.shard(key.name), list[bytes]()
        settings = self.settings
        batches = square_batches(
            shard, size=settings.image_size, batch_size=settings.batch_size, decoders=self.decoders
        )
        for label_maps in in_order(self.segmenter.segment, batches, workers=self.workers):
            masks.extend(map(encode_png, label_maps))
            advance(len(masks))
        # PNG is already compressed.
        pq.write_table(pa.table({"id": shard.ids, "mask": pa.array(masks, pa.binary())}), path, compression="none")


def build_masks(
    artifact: Artifact, writer: MaskWriter, *, engine: Engine = in_this_process, progress: Progress = silent
) -> dict[str, int]:
    """Makes `artifact` of the masks of all photos, one table per shard.

    Only shards that this segmenter has not seen are computed, also after a kill. Returns the counts of `build_shards`.
    """
    segmenter = writer.segmenter
    return build_shards(
        artifact,
        source=writer.photos,
        shard_recipe=segmenter.fingerprint,
        suffix="parquet",
        write=writer,
        facts={
            "segmenter": segmenter.fingerprint,
            "classes": segmenter.classes,
            "mask_size": writer.settings.mask_size,
        },
        engine=engine,
        progress=progress,
    )


def build_label_maps(artifact: Artifact, *, photos: Photos, masks: Path, label_grid: int) -> dict[str, int]:
    """Makes `artifact` of the masks at label_grid x label_grid, a byte per cell: label_maps_nhw of each shard.

    Random rows of a training epoch then come from memory-mapped files, and no PNG is decoded twice.
    """

    def write(key: ShardKey, path: Path, advance: Advance) -> None:
        pngs = read_parquet(masks / f"{key.name}.parquet", columns=["mask"], remedy="run the step masks again")["mask"]
        maps = np.stack([resize_labels(np.asarray(decode_png(png)), label_grid) for png in pngs])
        write_tensors(path, {"label_maps": torch.from_numpy(maps)})

    record = read_record(masks)
    assert record is not None, "masks come before label maps"
    made_from = {key.name: record.files[f"{key.name}.parquet"].sha256 for key in photos.shard_keys if key.rows}
    return build_shards(
        artifact,
        source=Keys(tuple(key._replace(fingerprint=made_from.get(key.name, "")) for key in photos.shard_keys)),
        shard_recipe="label maps",
        suffix="safetensors",
        write=write,
        facts={"label_grid": label_grid},
    )


def mask_summary(folder: Path) -> pd.DataFrame:
    """A table with the columns id, largest_class and distinct_classes, and one row per mask.

    Classes are counted in a seeded sample of SUMMARISED_MASKS masks and are null for the other masks.
    """
    stored = dataset([str(path) for path in sorted(folder.glob("*.parquet"))])
    masks = stored.to_table(columns=["id"]).to_pandas()
    rows = np.sort(masks.sample(n=min(len(masks), SUMMARISED_MASKS), random_state=0).index)
    pngs = stored.take(rows, columns=["mask"])["mask"].to_pylist()
    found = [np.unique(np.asarray(decode_png(png))) for png in pngs]
    masks["largest_class"] = pd.Series([classes.max() for classes in found], index=rows)
    masks["distinct_classes"] = pd.Series([len(classes) for classes in found], index=rows)
    return masks
