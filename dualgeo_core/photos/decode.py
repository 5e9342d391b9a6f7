"""Decoding of image bytes to upright RGB pixels. Also defines which photos are usable."""

import io

import numpy as np
import pillow_heif
from PIL import Image, ImageOps

pillow_heif.register_heif_opener()

# Only photo formats: Pillow's other decoders are attack surface for untrusted files.
FORMATS = ("JPEG", "PNG", "HEIF", "WEBP")
MAX_PIXELS = 89_478_485  # Pillow's limit for decompression bombs: 256 MB of RGB


class UndecodableImage(ValueError):  # noqa: N818 - the name describes the image
    """Image bytes that are not a usable photo. The message is the reason."""


def decode_image(data: bytes) -> Image.Image:
    """The photo as upright RGB. Raises UndecodableImage if it is truncated, not a photo or a decompression bomb."""
    return upright_rgb(open_image(data))


def open_image(data: bytes) -> Image.Image:
    """The opened photo, its pixels not yet decoded. Raises UndecodableImage if its header is unusable."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise UndecodableImage(f"decompression bomb (more than {2 * MAX_PIXELS} pixels)") from None
    except Image.UnidentifiedImageError:
        raise UndecodableImage("undecodable (not a JPEG, PNG, HEIC or WebP image)") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise almost any exception on a broken header
        raise UndecodableImage(f"undecodable ({_one_line(error)})") from None
    if image.width * image.height > MAX_PIXELS:
        raise UndecodableImage(f"decompression bomb ({image.width} x {image.height} pixels)")
    return image


def upright_rgb(image: Image.Image) -> Image.Image:
    """The pixels of an opened photo, EXIF orientation applied. Raises UndecodableImage if they are broken."""
    try:
        image.load()
        if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it to white
            image = Image.fromarray((np.asarray(image, dtype=np.int64) >> 8).clip(0, 255).astype(np.uint8))
        return ImageOps.exif_transpose(image).convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # and on broken pixel data
        raise UndecodableImage(f"undecodable ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
