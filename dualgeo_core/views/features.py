"""The encoder's features of every photo of a set, computed once: safetensors shards, half precision."""

from pathlib import Path

import torch

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.shards import Advance, ShardKey, build_shards
from dualgeo_core.base.tensors import write_tensors
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import EncoderSettings
from dualgeo_core.views.batches import in_order, square_batches
from dualgeo_core.views.encoder import Encoder


def build_features(
    artifact: Artifact,
    *,
    photos: Photos,
    encoder: Encoder,
    settings: EncoderSettings,
    workers: int = 1,
    progress: Progress = silent,
) -> dict[str, int]:
    """Makes `artifact` of pooled_nd and tokens_ntd (float16) of each shard, rows in the order of `photos.frame`.

    Only shards that this encoder has not seen are computed, also after a kill. Returns the counts of `build_shards`.
    """

    def write(key: ShardKey, path: Path, advance: Advance) -> None:
        pooled, tokens, done = [], [], 0
        batches = square_batches(photos.shard(key.name), size=settings.image_size, batch_size=settings.batch_size)
        for encoded in in_order(encoder.encode, batches, workers=workers):
            pooled.append(encoded.pooled_bd.half())
            tokens.append(encoded.tokens_btd.half())
            done += len(encoded.pooled_bd)
            advance(done)
        features = {"pooled": torch.cat(pooled), "tokens": torch.cat(tokens)}
        if not all(bool(torch.isfinite(values).all()) for values in features.values()):
            raise InputError(f"encoder {settings.name} gives values that half precision cannot hold; take another")
        write_tensors(path, features)

    return build_shards(
        artifact,
        source=photos,
        shard_recipe=encoder.fingerprint,
        suffix="safetensors",
        write=write,
        facts={"encoder": encoder.fingerprint, "width": encoder.width, "token_grid": settings.token_grid},
        progress=progress,
    )
