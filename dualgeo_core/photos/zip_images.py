"""The images of a photo table in a zip archive, read without unpacking it."""

import errno
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import one_line
from dualgeo_core.photos.image_files import MAX_BYTES, possible_names


class ZipImages:
    """The members of a zip archive. Several threads may read at the same time.

    An id is a member's path or the end of its path after a `/` or `_`, if only one member has that end: IM2GPS's
    table lists 231521295_a.jpg, which its archive calls Rome_00024_231521295_a.jpg.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path} is not a zip archive ({one_line(error)}); download it again") from None
        names = [info.filename for info in self._archive.infolist() if not info.is_dir()]
        # macOS writes a second file about each file.
        names = [name for name in names if not name.startswith("__MACOSX/")]
        uses = Counter(end for name in names for end in _ends(name))
        self._names = {end: name for name in names for end in _ends(name) if uses[end] == 1} | {
            name: name for name in names
        }

    def read(self, photo_id: str) -> bytes:
        """The file's bytes, as `ImageFiles.read` defines."""
        name = self.file_of(photo_id)
        if name is None:
            raise FileNotFoundError
        size = self._archive.getinfo(name).file_size
        if size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"{size} bytes, more than {MAX_BYTES}")
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise OSError(errno.EIO, one_line(error)) from None

    def file_of(self, photo_id: str) -> str | None:
        """The member's path, as `ImageFiles.file_of` defines."""
        names = possible_names(str(PurePosixPath(photo_id)))
        return next((self._names[name] for name in names if name in self._names), None)

    def reading_order(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The order of the table: a zip has a table of its members, and is small."""
        return np.arange(len(ids))


def _ends(name: str) -> set[str]:
    """The name, and all its ends after a `/` or `_`."""
    return {name} | {name[place + 1 :] for place, sign in enumerate(name) if sign in "/_"}
