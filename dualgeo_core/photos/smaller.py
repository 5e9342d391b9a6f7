"""Photos re-encoded at a smaller size, for sets that are larger than a disk."""

import io

from PIL import Image

from dualgeo_core.photos.decode import decode_image

QUALITY = 90  # of JPEG


def with_short_side(data: bytes, pixels: int) -> bytes:
    """The photo as an upright JPEG without metadata whose short side has `pixels` pixels.

    A photo that is not larger is returned unchanged. Raises UndecodableImage as `decode_image` does.
    """
    image = decode_image(data)
    if min(image.size) <= pixels:
        return data
    width, height = (round(side * pixels / min(image.size)) for side in image.size)
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
