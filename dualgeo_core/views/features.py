"""The encoder's features of every photo of a set, computed once: safetensors shards, half precision."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.shards import Advance, Engine, ShardKey, build_shards, in_this_process
from dualgeo_core.base.tensors import write_tensors
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import EncoderSettings
from dualgeo_core.views.batches import DECODERS, in_order, square_batches
from dualgeo_core.views.encoder import Encoder


@dataclass(frozen=True)
class FeatureWriter:
    """Writes pooled_nd and tokens_ntd (float16) of a shard, rows in the order of `photos.frame`."""

    photos: Photos
    encoder: Encoder
    settings: EncoderSettings
    workers: int = 1
    decoders: int = DECODERS

    def __call__(self, key: ShardKey, path: Path, advance: Advance) -> None:
        pooled, tokens, done = [], [], 0
        shard, settings = self.photos.shard(key.name), self.settings
        batches = square_batches(
            shard, size=settings.image_size, batch_size=settings.batch_size, decoders=self.decoders
        )
        for encoded in in_order(self.encoder.encode, batches, workers=self.workers):
            pooled.append(encoded.pooled_bd.half())
            tokens.append(encoded.tokens_btd.half())
            done += len(encoded.pooled_bd)
            advance(done)
        features = {"pooled": torch.cat(pooled), "tokens": torch.cat(tokens)}
        if not all(bool(torch.isfinite(values).all()) for values in features.values()):
            raise InputError(f"encoder {settings.name} gives values that half precision cannot hold; take another")
        write_tensors(path, features)


def build_features(
    artifact: Artifact, writer: FeatureWriter, *, engine: Engine = in_this_process, progress: Progress = silent
) -> dict[str, int]:
    """Makes `artifact` of the features of all photos, one file per shard.

    Only shards that this encoder has not seen are computed, also after a kill. Returns the counts of `build_shards`.
    """
    encoder = writer.encoder
    return build_shards(
        artifact,
        source=writer.photos,
        shard_recipe=encoder.fingerprint,
        suffix="safetensors",
        write=writer,
        facts={"encoder": encoder.fingerprint, "width": encoder.width, "token_grid": writer.settings.token_grid},
        engine=engine,
        progress=progress,
    )
