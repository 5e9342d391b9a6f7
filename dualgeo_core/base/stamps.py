"""Notes which files held their recorded bytes, so that a file is read again only after it has changed."""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dualgeo_core.base.digests import FileDigest, is_intact
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import read_json, write_json

SETTLED_S = 2.0  # file systems may give two writes within this time the same times
Stamp = tuple[str, int, int, int, int]  # recorded SHA-256; size, times of modification and change (ns), and inode


def damaged_files_since(folder: Path, files: Mapping[str, FileDigest]) -> list[Path]:
    """The files that are missing or hold other bytes. Reads those that changed since all of them were intact.

    A file has changed if its size, inode, modification time or change time is another one. Bytes that change without a
    write, on a failing disk, are not found here; `dualgeo verify` reads all bytes.
    """
    stamps, began_ns = stamps_of(folder), time.time_ns()
    found = {name: _stamp(folder / name, digest) for name, digest in files.items()}
    known = _read(stamps)
    changed = [name for name, stamp in found.items() if stamp is None or list(stamp) != known.get(name)]
    damaged = [folder / name for name in changed if not is_intact(folder / name, files[name])]
    if changed and not damaged and _is_settled(found, began_ns):
        with suppress(InputError, OSError):  # where nothing can be written, all bytes are read the next time
            write_json(stamps, found)
    return damaged


def stamps_of(folder: Path) -> Path:
    """The file beside a folder with the notes about it."""
    return folder.with_name(f"{folder.name}.verified.json")


def _stamp(path: Path, digest: FileDigest) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return digest.sha256, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _is_settled(found: dict[str, Stamp | None], began_ns: int) -> bool:
    """Whether no file was written so shortly before the check that a write during it could leave its times alone."""
    limit = began_ns - int(SETTLED_S * 1e9)
    return all(stamp is not None and max(stamp[2], stamp[3]) < limit for stamp in found.values())


def _read(stamps: Path) -> dict[str, list[str | int]]:
    if not stamps.is_file():
        return {}
    try:
        content = read_json(stamps)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}
