"""Batches of square photos from a shard, decoded in threads while the model computes."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.decode import UndecodableImage, decode_image
from dualgeo_core.photos.photo_set import PhotoShard
from dualgeo_core.views.crop import square_crop

DECODERS = 2  # Pillow releases the GIL while it decodes; two threads are faster than a model on a CPU


def square_batches(shard: PhotoShard, *, size: int, batch_size: int) -> Iterator[list[Image.Image]]:
    """The shard's photos in order, batch by batch, cropped to size x size. Holds at most two decoded batches.

    Raises InputError if a photo cannot be decoded.
    """
    with ThreadPoolExecutor(DECODERS) as pool:

        def submit(start: int) -> list[Future[Image.Image]]:
            photos = zip(shard.ids[start : start + batch_size], shard.images[start : start + batch_size], strict=True)
            return [pool.submit(_square, photo_id, data, size) for photo_id, data in photos]

        upcoming = submit(0)
        for start in range(0, len(shard.ids), batch_size):
            current, upcoming = upcoming, submit(start + batch_size)
            yield [future.result() for future in current]


def _square(photo_id: str, data: bytes, size: int) -> Image.Image:
    try:
        return square_crop(decode_image(data), size)
    except UndecodableImage as error:
        raise InputError(f"photo {photo_id!r} is {error}; ingest its set again to quarantine it") from None
