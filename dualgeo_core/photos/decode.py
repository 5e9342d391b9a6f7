"""Decoding of image bytes to upright RGB pixels. Also defines which photos are usable."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Any

import numpy as np
import pillow_heif
import simplejpeg
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif import HeifImageFile

from dualgeo_core.base.files import one_line
from dualgeo_core.photos.exif import Metadata, read_metadata
from dualgeo_core.photos.heif_boxes import truncation

pillow_heif.register_heif_opener()
# Pillow warns once per odd tag, thousands of times for one hostile file. What matters becomes the photo's fault.
# The filter is global because warnings.catch_warnings() is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Only photo formats: Pillow's other decoders are attack surface for untrusted files.
FORMATS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "HEIF": HeifImageFile,
    "WEBP": WebPImageFile,
}
MAX_PIXELS = 89_478_485  # Pillow's limit for decompression bombs: 256 MB of RGB
STRIP_ROWS = 256

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UndecodableImage(ValueError):  # noqa: N818 - the name describes the image
    """Image bytes that are not a usable photo. The message is the reason."""


class PixelBudget:
    """Limits the pixels that threads decode at the same time, so that memory does not grow with their number."""

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._changed = Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Waits until so many pixels are free, and takes them for the block. They must not exceed the budget."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


BUDGET = PixelBudget(2 * MAX_PIXELS)  # about 2 GB, at up to 12 bytes per pixel


def decode_image(data: bytes) -> Image.Image:
    """The photo as upright RGB, without metadata. Broken EXIF counts as an upright photo.

    Raises UndecodableImage if it is damaged, truncated, not a photo or a decompression bomb.
    """
    image = _open(data)
    with BUDGET.taken(image.width * image.height):
        pixels = _rgb(image, data)
        orientation = read_metadata(image).orientation
        return pixels.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else pixels


def image_metadata(data: bytes) -> Metadata:
    """The photo's metadata, without its pixels. Raises UndecodableImage if its header is unusable."""
    return read_metadata(_open(data))


def check_image(data: bytes) -> Metadata:
    """The photo's metadata, after its pixels were decoded completely. Raises UndecodableImage as `decode_image`."""
    image = _open(data)
    with BUDGET.taken(image.width * image.height):
        _rgb(image, data)
        return read_metadata(image)


def _open(data: bytes) -> Image.Image:
    """The opened photo, its pixels not yet decoded. Raises UndecodableImage if its header is unusable."""
    known = (name for name in FORMATS if _accepts(name, data))
    if (form := next(known, None)) is None:
        raise UndecodableImage("undecodable (not a JPEG, PNG, HEIC or WebP image)")
    # Image.open() would hide a decoder's reason, and refuse JPEGs with a damaged index of further pictures.
    try:
        image = FORMATS[form](io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise almost any exception on a broken header
        missing = truncation(data) if form == "HEIF" else None
        reason = f"truncated: {missing}" if missing else one_line(error)
        raise UndecodableImage(f"undecodable ({reason})") from None
    if image.width * image.height > MAX_PIXELS:
        raise UndecodableImage(f"decompression bomb ({image.width} x {image.height} pixels)")
    return image


def _accepts(form: str, data: bytes) -> bool:
    """Whether the first bytes are those of this format."""
    accepts = Image.OPEN[form][1]
    return accepts is not None and accepts(data[:16]) is True


def _rgb(image: Image.Image, data: bytes) -> Image.Image:
    """The RGB pixels of an opened photo, as stored. Raises UndecodableImage if they are broken."""
    if image.format == "HEIF" and (missing := truncation(data)):
        raise UndecodableImage(f"undecodable (truncated: {missing})")
    try:
        if isinstance(image, JpegImageFile):
            return _jpeg_rgb(image, data)
        image.load()
        if image.mode.startswith("I"):
            image = _eight_bits(image)
        rgb = image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # and on broken pixel data
        raise UndecodableImage(f"undecodable ({one_line(error)})") from None
    rgb.info = {}
    return rgb


def _jpeg_rgb(image: JpegImageFile, data: bytes) -> Image.Image:
    """The pixels that Pillow would give. Raises ValueError at any damage, which Pillow would fill with grey."""
    cmyk = image.mode == "CMYK"
    try:
        pixels: np.ndarray[Any, np.dtype[np.uint8]] = simplejpeg.decode_jpeg(data, "CMYK" if cmyk else "RGB")
    except ValueError as error:
        if "subsampling" in str(error):  # an unusual ratio of luma and chroma samples, which only Pillow can decode
            return image.convert("RGB")
        raise
    if pixels.shape[:2] != (image.height, image.width):
        raise ValueError(f"{pixels.shape[1]} x {pixels.shape[0]} pixels, but its header has another size")
    # Only Pillow knows whether inks are inverted.
    return image.convert("RGB") if cmyk else Image.fromarray(pixels)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey; Pillow's convert() would clip it to white. In strips, to save memory."""
    grey = Image.new("L", image.size)
    for top in range(0, image.height, STRIP_ROWS):
        strip = np.asarray(image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height))))
        grey.paste(Image.fromarray((strip >> 8).clip(0, 255).astype(np.uint8)), (0, top))
    return grey
