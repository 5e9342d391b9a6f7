"""The label map of every photo of a set, stored as Parquet shards of id and one-channel PNG of class ids."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import dataset

from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.shards import Advance, ShardKey, build_shards
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import SegmenterSettings
from dualgeo_core.views.batches import square_batches
from dualgeo_core.views.label_maps import decode_png, encode_png
from dualgeo_core.views.segmenter import Segmenter

SUMMARISED_MASKS = 10_000


def build_masks(
    *, photos: Photos, folder: Path, segmenter: Segmenter, settings: SegmenterSettings, progress: Progress = silent
) -> dict[str, int]:
    """Writes a table (id, mask) per shard to `folder`, rows in the order of `photos.frame`.

    Shards already computed with this segmenter are reused, also after a kill. Returns the counts of `build_shards`.
    """

    def write(key: ShardKey, path: Path, advance: Advance) -> None:
        shard, masks = photos.shard(key.name), list[bytes]()
        for images in square_batches(shard, size=settings.image_size, batch_size=settings.batch_size):
            masks.extend(encode_png(label_map) for label_map in segmenter.segment(images))
            advance(len(masks))
        # PNG is already compressed.
        pq.write_table(pa.table({"id": shard.ids, "mask": pa.array(masks, pa.binary())}), path, compression="none")

    return build_shards(
        folder=folder,
        recipe=segmenter.fingerprint,
        source=photos,
        suffix="parquet",
        write=write,
        facts={
            "photos": photos.fingerprint,
            "segmenter": segmenter.fingerprint,
            "settings": settings.fingerprint,
            "classes": segmenter.classes,
            "mask_size": settings.mask_size,
        },
        progress=progress,
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
