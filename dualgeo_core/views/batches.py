"""A shard's encoded photos as batches of squares, decoded in threads ahead of the model that takes them."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.decode import UndecodableImage, decode_image
from dualgeo_core.photos.photo_set import PhotoShard
from dualgeo_core.views.crop import square_crop

DECODERS = 2  # Pillow decodes outside the interpreter's lock; two keep ahead of a model on a CPU


def square_batches(shard: PhotoShard, *, size: int, batch_size: int) -> Iterator[list[Image.Image]]:
    """The shard's photos in order, batch by batch, cropped to size x size; at most two batches are held decoded.

    Raises InputError for a photo that cannot be decoded: it belongs in its set's quarantine, not in an index.
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
        raise InputError(f"photo {photo_id!r} is {error}; ingest its set again, which quarantines it") from None
