"""Feeding of frozen models: how long an accelerator waits for decoded photos while masks or features are computed.

    python benchmarks/views.py [--photos 2000] [--long-side 500]

There need be no accelerator: it is a wait of a known length per batch, which takes no CPU. First the photos are decoded
and cropped alone, as fast as the cores can. Then features are written, with decoding and shards as in the pipeline,
for accelerators of half and of twice that speed. `together_share` is the throughput together, divided by that of the
slower of the two alone; the last line is JSON with the smaller share.
"""

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.photos.existing import ExistingSet
from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter
from dualgeo_core.settings import EncoderSettings, PhotoSource
from dualgeo_core.views.batches import square_batches
from dualgeo_core.views.encoder import Encoded
from dualgeo_core.views.features import FeatureWriter, build_features

SHARD_PHOTOS, WIDTH = 1000, 768
SETTINGS = EncoderSettings(image_size=224, batch_size=32)
CORES = len(os.sched_getaffinity(0))


class PacedEncoder:
    """An accelerator that encodes so many photos per second, one batch after another."""

    width, fingerprint = WIDTH, "paced"

    def __init__(self, photos_per_s: float) -> None:
        self._photos_per_s, self._device = photos_per_s, ThreadPoolExecutor(1)

    def encode(self, images: Sequence[Image.Image]) -> Encoded:
        squares = np.stack([np.asarray(image) for image in images])  # what the host does for a real encoder
        self._device.submit(time.sleep, len(squares) / self._photos_per_s).result()
        tokens = SETTINGS.token_grid**2
        return Encoded(torch.zeros(len(squares), WIDTH), torch.zeros(len(squares), tokens, WIDTH))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--long-side", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = fabricated(Path(folder), count=arguments.photos, long_side=arguments.long_side)
        decoding = decoding_alone(photos)
        shares = {}
        for name, speed in (("slow", decoding / 2), ("fast", 2 * decoding)):
            rate = together(photos, Path(folder) / name, speed)
            shares[name] = rate / min(speed, decoding)
            print(f"accelerator {speed:.0f} photos/s: together {rate:.0f} photos/s, share {shares[name]:.2f}")
    result = {"cores": CORES, "decoded_per_s": round(decoding), "together_share": round(min(shares.values()), 3)}
    print(json.dumps(result))


def fabricated(data: Path, *, count: int, long_side: int) -> Photos:
    """A set of noisy photos, 4:3."""
    random = np.random.default_rng(0)
    small = random.integers(0, 255, (8, long_side // 16, long_side // 16 * 3 // 4, 3), dtype=np.uint8)
    encoded = []
    for pixels in small:
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((long_side, long_side * 3 // 4)).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    rows = [IngestedPhoto(f"p{i:07d}", 0.0, 0.0, f"author{i}", encoded[i % len(encoded)]) for i in range(count)]
    with ThreadPoolExecutor(CORES) as pool:
        PhotoWriter(
            out=data / "set",
            existing=ExistingSet(),
            recipe="benchmark",
            entries=rows,
            read=lambda row: row,
            pool=pool,
            shard_photos=SHARD_PHOTOS,
        ).write(max_quarantine_share=0)
    return open_photos(PhotoSource(photo_set="set"), data)


def decoding_alone(photos: Photos) -> float:
    started = time.monotonic()
    for shard in photos.shards():
        for _ in square_batches(shard, size=SETTINGS.image_size, batch_size=SETTINGS.batch_size, decoders=CORES):
            pass
    return len(photos) / (time.monotonic() - started)


def together(photos: Photos, folder: Path, photos_per_s: float) -> float:
    encoder = PacedEncoder(photos_per_s)
    writer = FeatureWriter(photos, encoder, SETTINGS, workers=2, decoders=CORES)  # type: ignore[arg-type]
    started = time.monotonic()
    build_features(Artifact(folder / "set", step="benchmark", recipe="paced", inputs={}), writer)
    return len(photos) / (time.monotonic() - started)


if __name__ == "__main__":
    main()
