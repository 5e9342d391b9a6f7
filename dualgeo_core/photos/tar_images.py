"""The images of a photo table in a tar archive, read without unpacking it or joining its parts."""

import errno
import hashlib
import tarfile
from array import array
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_file, fingerprint
from dualgeo_core.base.progress import Progress
from dualgeo_core.photos.image_files import MAX_BYTES, possible_names
from dualgeo_core.photos.joined_parts import JoinedParts

SAVED_EVERY = 250_000  # members; a killed scan goes on from the last time
BLOCK = 512


class Members:
    """The names and places of an archive's members, kept in `file`, so that the archive is scanned once.

    A name is a 64-bit key. The file is used as long as the archive's parts have the same names, sizes and times.
    """

    COLUMNS = ("path_key", "name_key", "start", "size")

    def __init__(self, file: Path, parts: Sequence[Path]) -> None:
        self.file = file
        self.signature = fingerprint([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in parts])
        self.columns = {name: array("Q") for name in self.COLUMNS}
        self.scanned = 0
        if file.is_file():
            self._load()

    def add(self, name: str, *, start: int, size: int) -> None:
        path = PurePosixPath(name)
        row = (_key(str(path)), _key(path.name), start, size)
        for column, value in zip(self.columns.values(), row, strict=True):
            column.append(value)

    def save(self) -> None:
        arrays = {name: np.frombuffer(column, np.uint64) for name, column in self.columns.items()}
        with atomic_file(self.file) as temporary:
            save_file(arrays, temporary, metadata={"archive": self.signature, "scanned": str(self.scanned)})

    def _load(self) -> None:
        try:
            with safe_open(self.file, framework="numpy") as stored:
                if stored.metadata()["archive"] != self.signature:
                    return
                self.columns = {name: array("Q", stored.get_tensor(name).tobytes()) for name in self.COLUMNS}
                self.scanned = int(stored.metadata()["scanned"])
        except (OSError, KeyError, TypeError, ValueError, SafetensorError):  # cut: the archive is scanned again
            return


class TarImages:
    """The members of an uncompressed tar archive, given as one file or as its parts.

    Several threads may read at the same time. An id is a member's path, or its file name if only one member has that
    name. An id a/b/c.jpg also finds a_b_c.jpg, the form used in MP-16's archive. `kept_in` stores the table of members.
    Raises InputError if the archive is compressed or cut, or its parts are not in their order.
    """

    def __init__(self, parts: Sequence[Path], *, kept_in: Path, progress: Progress) -> None:
        self._archive = JoinedParts(parts)
        members = Members(kept_in, parts)
        if members.scanned < self._archive.size:
            _scan(self._archive, members, progress)
        self._start, self._size = (np.frombuffer(members.columns[name], np.uint64) for name in ("start", "size"))
        path_key, name_key = (np.frombuffer(members.columns[name], np.uint64) for name in ("path_key", "name_key"))
        below = np.flatnonzero(path_key != name_key)  # members in a folder have two names
        keys = np.concatenate([path_key, name_key[below]])
        order = np.argsort(keys)
        keys = keys[order]
        twin = keys[1:] == keys[:-1]
        # A name that several members share is ambiguous.
        single = ~(np.append(twin, False) | np.insert(twin, 0, False))
        self._keys, order = keys[single], order[single]
        self._rows = np.where(order < len(path_key), order, below[order - len(path_key)] if len(below) else order)

    def read(self, photo_id: str) -> bytes:
        """The file's bytes, as `ImageFiles.read` defines."""
        row = self._row(photo_id)
        if row is None:
            raise FileNotFoundError
        size = int(self._size[row])
        if size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"{size} bytes, more than {MAX_BYTES}")
        return self._archive.read_at(int(self._start[row]), size)

    def file_of(self, photo_id: str) -> str | None:
        """The member's position in the archive, as `ImageFiles.file_of` defines."""
        row = self._row(photo_id)
        return None if row is None else str(self._start[row])

    def reading_order(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The order in which the archive is read from its beginning to its end; ids without a member come last."""
        last = np.uint64(self._archive.size)
        rows = (self._row(photo_id) for photo_id in ids)
        starts = np.fromiter((last if row is None else self._start[row] for row in rows), np.uint64, count=len(ids))
        return np.argsort(starts, kind="stable")

    def _row(self, photo_id: str) -> int | None:
        """The number of the member that holds the photo, or None."""
        inside = str(PurePosixPath(photo_id))
        for name in (*possible_names(inside), *possible_names(inside.replace("/", "_"))):
            key = np.uint64(_key(name))
            found = int(np.searchsorted(self._keys, key))
            if found < len(self._keys) and self._keys[found] == key:
                return int(self._rows[found])
        return None


def _scan(archive: JoinedParts, members: Members, progress: Progress) -> None:
    """Adds all members from `members.scanned` on, and saves them. After an archive's end, the next part begins one."""
    what = f"index of {archive.parts[0].name} (bytes)"
    while members.scanned < archive.size:
        archive.seek(members.scanned)
        try:
            with tarfile.open(fileobj=archive, mode="r:") as tar:
                while member := tar.next():
                    if member.isfile():
                        members.add(member.name, start=member.offset_data, size=member.size)
                    members.scanned = tar.offset
                    tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every member
                    progress(what, min(members.scanned, archive.size - 1), archive.size)
                    if len(members.columns["start"]) % SAVED_EVERY == 0:
                        members.save()
                end = tar.offset
        except tarfile.TarError as error:
            raise _not_a_tar(archive, members.scanned, str(error)) from None
        if archive.read_at(end, BLOCK).strip(b"\0"):  # tarfile takes damage for the end
            raise _not_a_tar(archive, end, "there is no header")
        members.scanned = int(archive.starts[archive.part_at(end) + 1]) if end < archive.size else archive.size
    members.save()
    progress(what, archive.size, archive.size)


def _not_a_tar(archive: JoinedParts, position: int, reason: str) -> InputError:
    part = min(archive.part_at(position), len(archive.parts) - 1)
    return InputError(
        f"{archive.parts[part]} is not an uncompressed tar, or not the next part of one ({reason}, at byte "
        f"{position - int(archive.starts[part])}); give all parts in their order, and unpack or repack compressed ones"
    )


def _key(name: str) -> int:
    # Names need not be UTF-8.
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
