"""Batches of square photos from a shard, decoded in threads while models compute."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from PIL import Image

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.decode import UndecodableImage, decode_image
from dualgeo_core.photos.photo_set import PhotoShard
from dualgeo_core.views.crop import square_crop

Batch = TypeVar("Batch")
Made = TypeVar("Made")

DECODERS = 2  # two threads are faster than a model on a CPU; both decoders release the GIL
AHEAD = 3  # decoded batches that wait for the model


def square_batches(
    shard: PhotoShard, *, size: int, batch_size: int, decoders: int = DECODERS
) -> Iterator[list[Image.Image]]:
    """The shard's photos in order, batch by batch, cropped to size x size. Holds at most AHEAD + 1 decoded batches.

    Raises InputError if a photo cannot be decoded.
    """
    with ThreadPoolExecutor(decoders) as pool:

        def submit(start: int) -> list[Future[Image.Image]]:
            photos = zip(shard.ids[start : start + batch_size], shard.images[start : start + batch_size], strict=True)
            return [pool.submit(_square, photo_id, data, size) for photo_id, data in photos]

        upcoming = deque(submit(batch_size * number) for number in range(AHEAD))
        for start in range(0, len(shard.ids), batch_size):
            upcoming.append(submit(start + batch_size * AHEAD))
            yield [future.result() for future in upcoming.popleft()]


def in_order(make: Callable[[Batch], Made], batches: Iterable[Batch], *, workers: int) -> Iterator[Made]:
    """`make(batch)` of each batch, in order, on `workers` threads. Holds at most one finished batch per thread.

    With several workers each uses one of torch's threads: small models do not divide one batch well.
    """
    if workers == 1:
        yield from map(make, batches)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers) as pool:
            running: deque[Future[Made]] = deque()
            for batch in batches:
                running.append(pool.submit(make, batch))
                if len(running) > workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
    finally:
        torch.set_num_threads(threads)


def _square(photo_id: str, data: bytes, size: int) -> Image.Image:
    try:
        return square_crop(decode_image(data), size)
    except UndecodableImage as error:
        raise InputError(f"photo {photo_id!r} is {error}; ingest its set again to quarantine it") from None
