"""The size and SHA-256 of a file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileDigest:
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str


def digest_file(path: Path) -> FileDigest:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return FileDigest(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def is_intact(path: Path, digest: FileDigest) -> bool:
    """Whether the file holds the bytes of this digest."""
    return size_of(path) == digest.size and digest_file(path) == digest


def size_of(path: Path) -> int | None:
    """The file's size in bytes; None if there is no file."""
    return path.stat().st_size if path.is_file() else None
