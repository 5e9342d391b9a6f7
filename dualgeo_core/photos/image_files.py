"""The images of a photo table, and those in a folder."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".jpg", ".jpeg", ".png", ".heic", ".heif", ".webp")
MAX_BYTES = 512 * 2**20  # over twice the RGB pixels of the largest photo


class ImageFiles(Protocol):
    """Encoded photos by id. An id is a file's name, with or without its suffix."""

    def read(self, photo_id: str) -> bytes:
        """The file's bytes. Raises FileNotFoundError if no file has that name, OSError if it is unreadable."""
        ...

    def file_of(self, photo_id: str) -> str | None:
        """The file that the id names, the same for all ids that name it; None if there is none."""
        ...

    def reading_order(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The order (n,) in which these photos are read fastest."""
        ...


def read_photo(path: Path) -> bytes:
    """The bytes of a regular file. Raises OSError if it is not one, is unreadable, or is too large for a photo."""
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, more than {MAX_BYTES}", str(path))
        return file.read()


class FolderImages:
    """The files below a folder. An id is a path inside the folder; paths that leave it are refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, photo_id: str) -> bytes:
        """The file's bytes, as `ImageFiles.read` defines."""
        name = self.file_of(photo_id)
        if name is None:
            raise FileNotFoundError
        return read_photo(self.folder / name)

    def file_of(self, photo_id: str) -> str | None:
        """The path inside the folder, as `ImageFiles.file_of` defines."""
        inside = PurePosixPath(photo_id)
        if inside.is_absolute() or ".." in inside.parts or not inside.name:
            return None
        names = possible_names(str(inside))
        return next((name for name in names if os.path.isfile(self.folder / name)), None)  # noqa: PTH113

    def reading_order(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The order of the table: where files lie on a disk is unknown."""
        return np.arange(len(ids))


def possible_names(photo_id: str) -> list[str]:
    """The file names that an id may mean: itself, and with each suffix."""
    return [photo_id, *(photo_id + suffix for suffix in SUFFIXES), *(photo_id + suffix.upper() for suffix in SUFFIXES)]
