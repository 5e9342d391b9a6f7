"""Photo sets from your own files: a folder of photos with GPS in their EXIF, or a table and its images."""

from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, fingerprint
from dualgeo_core.base.geo import coordinate_fault
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.decode import UndecodableImage, decode_image, open_image, upright_rgb
from dualgeo_core.photos.exif import exif_artist, exif_position
from dualgeo_core.photos.existing import ExistingSet, open_existing
from dualgeo_core.photos.image_files import SUFFIXES, ImageFiles, open_images
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter

# Column names in the tables of IM2GPS3k, YFCC4k and MP-16.
ALIASES = {"img_id": "id", "lat": "latitude", "lon": "longitude"}


def ingest_folder(
    *, folder: Path, out: Path, max_quarantine_share: float, add: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Writes the set of all photos below `folder`, with positions from EXIF. The id is the path inside `folder`.

    The author is the EXIF artist, otherwise the topmost subfolder of the photo, otherwise unknown. With `add`, photos
    with new ids are added to the existing set. Returns the manifest, with the counts `added` and `already_there`.
    Raises InputError if `folder` has no photos, and as `PhotoWriter.write` does.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the photos")
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if _is_photo_file(path))
    if not paths:
        raise InputError(f"{folder} has no {', '.join(SUFFIXES)} files; give the folder that holds the photos")

    def read(photo_id: str) -> IngestedPhoto:
        return read_placed_photo(folder, photo_id)

    existing = open_existing(out) if add else ExistingSet()
    new = [path for path in paths if path not in existing.ids]
    recipe = fingerprint("folder", [(path, *_size_and_time(folder / path)) for path in new])
    with ThreadPoolExecutor() as pool:
        writer = PhotoWriter(
            out=out, existing=existing, recipe=recipe, entries=new, read=read, pool=pool, progress=progress
        )
        manifest = writer.write(max_quarantine_share=max_quarantine_share)
    return _with_counts(manifest, existing, already_there=len(paths) - len(new))


def read_placed_photo(folder: Path, photo_id: str) -> IngestedPhoto:
    """One photo of a folder, with its position from EXIF, or with a fault."""
    try:
        data = (folder / photo_id).read_bytes()
        image = open_image(data)
        position, artist = exif_position(image), exif_artist(image)
        upright_rgb(image)
    except UndecodableImage as error:
        return IngestedPhoto(photo_id, fault=str(error))
    except OSError as error:
        return IngestedPhoto(photo_id, fault=f"unreadable file ({error.strerror})")
    parents = PurePosixPath(photo_id).parts[:-1]
    author = artist or (parents[0] if parents else None)
    return IngestedPhoto(photo_id, position.latitude, position.longitude, author, data, position.fault)


@dataclass(frozen=True)
class TableRow:
    """One row of a photo table. `fault` is what the row alone shows to be wrong, or None."""

    id: str
    latitude: float
    longitude: float
    author: str | None
    fault: str | None


class PhotoTable(Sequence[TableRow]):
    """The rows of a CSV (id, latitude, longitude[, author]), kept as columns so that millions fit in memory.

    Rows with an id in `left_out` are dropped; `already_there` is the number of these ids. Raises InputError if the file
    is missing, is not a UTF-8 CSV or lacks a column.
    """

    def __init__(self, path: Path, left_out: Set[str] = frozenset()) -> None:
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        except FileNotFoundError:
            raise InputError(f"there is no table {path}; correct the path") from None
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not a UTF-8 CSV ({' '.join(str(error).split())}); save it as one") from None
        table = table.rename(columns=lambda name: ALIASES.get(name.strip().lower(), name.strip().lower()))
        missing = [name for name in ("id", "latitude", "longitude") if name not in table]
        if missing:
            present = ", ".join(table.columns)
            raise InputError(f"{path} lacks the column {', '.join(missing)} (it has {present}); add or rename it")
        table["id"] = table["id"].str.strip()
        held = table["id"].isin(left_out)
        self.already_there = table.loc[held, "id"].nunique()
        table = table[~held]
        self._ids = table["id"]
        self._latitude = pd.to_numeric(table["latitude"], errors="coerce").to_numpy()
        self._longitude = pd.to_numeric(table["longitude"], errors="coerce").to_numpy()
        self._author = table["author"].str.strip() if "author" in table else None
        self._repeated = self._ids.duplicated().to_numpy()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self[row] for row in range(*key.indices(len(self)))]
        photo_id, latitude, longitude = self._ids.iloc[key], float(self._latitude[key]), float(self._longitude[key])
        author = (self._author.iloc[key] or None) if self._author is not None else None
        if not photo_id:
            return TableRow(f"line {self._ids.index[key] + 2}", latitude, longitude, author, "no id")
        fault = "repeated id" if self._repeated[key] else coordinate_fault(latitude, longitude)
        return TableRow(photo_id, latitude, longitude, author, fault)


def ingest_csv(
    *,
    table: Path,
    images: Path,
    out: Path,
    max_quarantine_share: float,
    add: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes the set of a CSV's photos. An id is the name of a file in `images`, a folder or a .tar archive.

    Of rows with the same id only the first is used. `add`, the returned manifest and errors are as for `ingest_folder`.
    """
    existing = open_existing(out) if add else ExistingSet()
    rows = PhotoTable(table, left_out=existing.ids)
    files = open_images(images, progress)

    def read(row: TableRow) -> IngestedPhoto:
        return read_listed_photo(files, row)

    listed = sorted(path for path in images.rglob("*") if path.is_file()) if images.is_dir() else [images]
    recipe = fingerprint("csv", file_digest(table), [(str(path), *_size_and_time(path)) for path in listed])
    with ThreadPoolExecutor() as pool:
        writer = PhotoWriter(
            out=out, existing=existing, recipe=recipe, entries=rows, read=read, pool=pool, progress=progress
        )
        manifest = writer.write(max_quarantine_share=max_quarantine_share)
    return _with_counts(manifest, existing, already_there=rows.already_there)


def read_listed_photo(files: ImageFiles, row: TableRow) -> IngestedPhoto:
    """One photo of a table, with its image, or with a fault."""
    fault = row.fault
    data = b""
    if fault is None:
        try:
            data = files.read(row.id)
            decode_image(data)
        except UndecodableImage as error:
            fault = str(error)
        except FileNotFoundError:
            fault = "missing file"
        except OSError as error:
            fault = f"unreadable file ({error.strerror})"
    return IngestedPhoto(row.id, row.latitude, row.longitude, row.author, data, fault)


def _with_counts(manifest: dict[str, Any], existing: ExistingSet, already_there: int) -> dict[str, Any]:
    return {**manifest, "added": manifest["photos"] - len(existing.ids), "already_there": already_there}


def _is_photo_file(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
