"""The encoder's features of every photo of a set, stored as safetensors shards in half precision."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.shards import Advance, ShardKey, build_shards
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import EncoderSettings
from dualgeo_core.views.batches import square_batches
from dualgeo_core.views.encoder import Encoder


def build_features(
    *, photos: Photos, folder: Path, encoder: Encoder, settings: EncoderSettings, progress: Progress = silent
) -> dict[str, int]:
    """Writes pooled_nd and tokens_ntd (float16) of each shard to `folder`, rows in the order of `photos.frame`.

    Shards already computed with this encoder are reused, also after a kill. Returns the counts of `build_shards`.
    """

    def write(key: ShardKey, path: Path, advance: Advance) -> None:
        pooled, tokens, done = [], [], 0
        for images in square_batches(photos.shard(key.name), size=settings.image_size, batch_size=settings.batch_size):
            encoded = encoder.encode(images)
            pooled.append(encoded.pooled_bd.half())
            tokens.append(encoded.tokens_btd.half())
            done += len(images)
            advance(done)
        features = {"pooled": torch.cat(pooled), "tokens": torch.cat(tokens)}
        if not all(bool(torch.isfinite(values).all()) for values in features.values()):
            raise InputError(f"encoder {settings.name} gives values too large for half precision; choose another")
        save_file(features, path)

    return build_shards(
        folder=folder,
        recipe=encoder.fingerprint,
        source=photos,
        suffix="safetensors",
        write=write,
        facts={
            "photos": photos.fingerprint,
            "encoder": encoder.fingerprint,
            "settings": settings.fingerprint,
            "width": encoder.width,
            "token_grid": settings.token_grid,
        },
        progress=progress,
    )
