"""The forms in which photos are given to the locator: paths, bytes, PIL images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, overload

from PIL import Image, ImageOps

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.decode import UndecodableImage, decode_image
from dualgeo_core.photos.ids import shown_id
from dualgeo_core.photos.image_files import read_photo

PhotoInput: TypeAlias = str | Path | bytes | Image.Image


def upright_rgb(photo: PhotoInput, *, number: int) -> tuple[str, Image.Image]:
    """The photo's name and its upright RGB pixels. Bytes and images are named by `number`.

    Raises InputError, with name and reason, if the photo is unreadable.
    """
    if isinstance(photo, Image.Image):
        return f"photo {number}", ImageOps.exif_transpose(photo).convert("RGB")
    if isinstance(photo, bytes):
        return f"photo {number}", _decoded(photo, name=f"photo {number}")
    return str(photo), _decoded(photo_bytes(Path(photo)), name=str(photo))


class DecodedWhenTaken(Sequence[Image.Image]):
    """The upright pixels of files, decoded whenever they are taken: memory holds only those in use."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...

    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(index, int):
            return upright_rgb(self._paths[index], number=index)[1]
        return [upright_rgb(path, number=0)[1] for path in self._paths[index]]


def photo_bytes(path: Path) -> bytes:
    """The bytes of a photo's file. Raises InputError if it is missing or unreadable."""
    try:
        return read_photo(path)
    except FileNotFoundError:
        raise InputError(f"there is no photo {shown_id(str(path))}; correct the path") from None
    except OSError as error:
        raise unreadable(str(path), error.strerror or type(error).__name__) from None


def _decoded(data: bytes, *, name: str) -> Image.Image:
    try:
        return decode_image(data)
    except UndecodableImage as error:
        raise unreadable(name, str(error)) from None


def unreadable(name: str, reason: str) -> InputError:
    """The error that names a photo and the reason why it cannot be read."""
    return InputError(f"{shown_id(name)} is not a readable photo ({reason}); give a JPEG, PNG, HEIC or WebP file")
