"""The images of a photo table, read from a folder or directly from a tar archive."""

import errno
import hashlib
import os
import stat
import tarfile
from array import array
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.progress import Progress

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
        names = _possible_names(str(inside))
        return next((name for name in names if os.path.isfile(self.folder / name)), None)  # noqa: PTH113


class TarImages:
    """The members of an uncompressed tar archive, read without unpacking it.

    Takes 24 bytes of memory per name. Several threads may read at the same time. An id is a member's path, or its file
    name if only one member has that name. An id a/b/c.jpg also finds a_b_c.jpg, the form used in MP-16's archive.
    """

    def __init__(self, archive: Path, progress: Progress) -> None:
        self.archive = archive
        keys, starts, sizes = array("Q"), array("Q"), array("Q")
        size = archive.stat().st_size
        try:
            with tarfile.open(archive, "r:") as tar:
                while member := tar.next():
                    path = PurePosixPath(member.name)
                    for name in {str(path), path.name} if member.isfile() else ():
                        keys.append(_key(name))
                        starts.append(member.offset_data)
                        sizes.append(member.size)
                    tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every member
                    progress(f"index of {archive.name} (bytes)", member.offset_data + member.size, size)
        except tarfile.TarError as error:
            raise InputError(f"{archive} is not an uncompressed tar ({error}); unpack or repack it") from None
        unique, first, count = np.unique(np.array(keys, np.uint64), return_index=True, return_counts=True)
        self._keys, first = unique[count == 1], first[count == 1]  # a name that several members share is ambiguous
        self._starts, self._sizes = np.array(starts, np.uint64)[first], np.array(sizes, np.uint64)[first]

    def read(self, photo_id: str) -> bytes:
        """The file's bytes, as `ImageFiles.read` defines."""
        row = self._row(photo_id)
        if row is None:
            raise FileNotFoundError
        with self.archive.open("rb") as file:
            file.seek(int(self._starts[row]))
            return file.read(int(self._sizes[row]))

    def file_of(self, photo_id: str) -> str | None:
        """The member's position in the archive, as `ImageFiles.file_of` defines."""
        row = self._row(photo_id)
        return None if row is None else str(self._starts[row])

    def _row(self, photo_id: str) -> int | None:
        """The row of the index that holds the photo, or None."""
        inside = str(PurePosixPath(photo_id))
        for name in (*_possible_names(inside), *_possible_names(inside.replace("/", "_"))):
            key = np.uint64(_key(name))
            row = int(np.searchsorted(self._keys, key))
            if row < len(self._keys) and self._keys[row] == key:
                return row
        return None


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def open_images(path: Path, progress: Progress) -> ImageFiles:
    """The images of a folder or a .tar archive. Raises InputError if `path` is neither."""
    if path.is_dir():
        return FolderImages(path)
    if path.is_file() and path.suffix == ".tar":
        return TarImages(path, progress)
    raise InputError(f"{path} is neither a folder nor a .tar archive; give the one that holds the images")


def _possible_names(photo_id: str) -> list[str]:
    return [photo_id, *(photo_id + suffix for suffix in SUFFIXES), *(photo_id + suffix.upper() for suffix in SUFFIXES)]
