"""The files below a folder: those that are ingested as photos, and all others, which are counted by kind."""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.ids import shown_id
from dualgeo_core.photos.image_files import SUFFIXES


@dataclass
class OtherFiles:
    """Files of one kind that are not ingested: their number and the path of the first."""

    count: int
    first: str


@dataclass
class FolderListing:
    """The paths of all photos below a folder, sorted, and its other files by suffix."""

    photos: list[str] = field(default_factory=list)
    others: dict[str, OtherFiles] = field(default_factory=dict)

    def __str__(self) -> str:
        """The other files in words, such as `3 .tif (first: a/1.tif), 1 .txt (first: notes.txt)`."""
        return ", ".join(f"{other.count} {kind} (first: {other.first})" for kind, other in self.others.items())


def list_folder(folder: Path) -> FolderListing:
    """All files below `folder`. A file with a photo's suffix is a photo, even if it turns out to be unreadable.

    Links to folders are not followed, because they may form a circle. Raises InputError if a folder is unreadable.
    """
    listing = FolderListing()
    others: list[tuple[str, str]] = []
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        inside = Path(parent).relative_to(folder)
        for name in files:
            path = (inside / name).as_posix()
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in SUFFIXES:
                listing.photos.append(path)
            else:
                others.append((suffix or "without suffix", path))
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        others.extend(("links to folders", (inside / name).as_posix()) for name in links)
    listing.photos.sort()
    for kind, path in sorted(others):
        listing.others.setdefault(shown_id(kind), OtherFiles(0, shown_id(path))).count += 1
    return listing


def _refuse(error: OSError) -> None:
    raise InputError(
        f"{shown_id(str(error.filename))} cannot be listed ({error.strerror}); correct its permissions"
    ) from None
