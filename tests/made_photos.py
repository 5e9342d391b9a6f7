"""Small photo sets of noisy photos, each of another colour, and an encoder that counts the photos it encodes."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from dualgeo_core.photos.existing import ExistingSet, open_existing
from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter
from dualgeo_core.settings import PhotoSource
from dualgeo_core.views.encoder import Encoded, Encoder

COUNT, PER_SHARD = 20, 7


def photo(number: int) -> bytes:
    """A noisy photo, wider than high, whose colour depends on its number."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 80, (48, 70, 3)) + random.integers(0, 170, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def make_photos(data: Path, *, numbers: Sequence[int] = range(COUNT), part: str = "all", add: bool = False) -> Photos:
    """The set `set` of these photos, PER_SHARD per shard; `add` appends them to the existing set."""
    rows = [IngestedPhoto(f"p{i:03d}", float(i), float(-i), f"author{i % 6}", photo(i)) for i in numbers]
    with ThreadPoolExecutor(1) as pool:
        writer = PhotoWriter(
            out=data / "set",
            existing=open_existing(data / "set") if add else ExistingSet(),
            recipe=f"made {list(numbers)}",
            entries=rows,
            read=lambda row: row,
            pool=pool,
            shard_photos=PER_SHARD,
        )
        writer.write(max_quarantine_share=0)
    return open_photos(PhotoSource.model_validate({"photo_set": "set", "part": part, "query_share": 0.5}), data)


class CountingEncoder:
    """The real encoder with a count of encoded photos; it is killed after `killed_after` photos."""

    def __init__(self, encoder: Encoder, killed_after: int | None = None) -> None:
        self.encoder, self.killed_after, self.seen = encoder, killed_after, 0
        self.width, self.fingerprint = encoder.width, encoder.fingerprint

    def encode(self, images: Sequence[Image.Image]) -> Encoded:
        self.seen += len(images)
        if self.killed_after is not None and self.seen > self.killed_after:
            raise KeyboardInterrupt
        return self.encoder.encode(images)
