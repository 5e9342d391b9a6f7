"""Photo sets from your own files: a folder of photos with GPS in their EXIF or XMP, or a table and its images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, fingerprint
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.decode import UndecodableImage, check_image, image_metadata
from dualgeo_core.photos.exif import exif_artist, exif_position, exif_taken
from dualgeo_core.photos.existing import ExistingSet, members_file, open_existing
from dualgeo_core.photos.image_files import SUFFIXES, FolderImages, ImageFiles, read_photo
from dualgeo_core.photos.listing import list_folder
from dualgeo_core.photos.published_sets import PLAIN, TableFormat
from dualgeo_core.photos.smaller import with_short_side
from dualgeo_core.photos.table import PhotoTable, TableRow
from dualgeo_core.photos.tar_images import TarImages
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter, check_out
from dualgeo_core.photos.zip_images import ZipImages

CHECKS_VERSION = 4  # part of the recipe; raise it with every change of what is accepted


def ingest_folder(
    *, folder: Path, out: Path, max_quarantine_share: float, add: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Writes the set of all photos below `folder`, with positions from EXIF or XMP. The id is the path inside `folder`.

    The author is the EXIF artist, otherwise the topmost subfolder of the photo, otherwise unknown. With `add`, photos
    with new ids are added to the existing set. Returns the manifest, with the counts `added` and `already_there`, and
    with `not_read`, which lists the other files in words. Raises InputError if `folder` has no photos, and as
    `PhotoWriter.write` does.
    """
    check_out(out)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the photos")
    listing = list_folder(folder)
    if not listing.photos:
        found = f" (it has {listing})" if listing.others else ""
        raise InputError(f"{folder} has no {', '.join(SUFFIXES)} files{found}; give the folder that holds the photos")

    def read(photo_id: str) -> IngestedPhoto:
        return read_placed_photo(folder, photo_id)

    existing = open_existing(out) if add else ExistingSet()
    images = FolderImages(folder)
    held = existing.ids | {images.file_of(photo_id) for photo_id in existing.ids}
    new = [path for path in listing.photos if path not in held]
    recipe = fingerprint("folder", CHECKS_VERSION, [(path, *_size_and_time(folder / path)) for path in new])
    with ThreadPoolExecutor() as pool:
        writer = PhotoWriter(
            out=out, existing=existing, recipe=recipe, entries=new, read=read, pool=pool, progress=progress
        )
        manifest = writer.write(max_quarantine_share=max_quarantine_share)
    counted = _with_counts(manifest, existing, already_there=len(listing.photos) - len(new))
    return {**counted, "not_read": str(listing)}


def read_placed_photo(folder: Path, photo_id: str) -> IngestedPhoto:
    """One photo of a folder, with its position from EXIF or XMP, or with a fault."""
    try:
        data = read_photo(folder / photo_id)
        metadata = check_image(data)
    except UndecodableImage as error:
        return IngestedPhoto(photo_id, fault=str(error))
    except OSError as error:
        return IngestedPhoto(photo_id, fault=f"unreadable file ({error.strerror})")
    position, artist = exif_position(metadata), exif_artist(metadata)
    parents = PurePosixPath(photo_id).parts[:-1]
    author = artist or (parents[0] if parents else None)
    return IngestedPhoto(
        photo_id, position.latitude, position.longitude, author, data, position.fault, exif_taken(metadata)
    )


def ingest_csv(
    *,
    table: Path,
    images: Sequence[Path],
    out: Path,
    max_quarantine_share: float,
    form: TableFormat = PLAIN,
    swapped: bool | None = None,
    short_side: int | None = None,
    add: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes the set of a CSV's photos. An id is the name of a file in `images`: a folder, a .zip, or a tar's parts.

    Of rows with the same file only the first is used. `form` and `swapped` are those of `PhotoTable`. A `short_side`
    in pixels re-encodes larger photos. `add`, the returned counts and errors are as for `ingest_folder`.
    """
    check_out(out)
    existing = open_existing(out) if add else ExistingSet()
    files = open_images(images, members=members_file(out), progress=progress)
    rows = PhotoTable(table, files, form=form, swapped=swapped, left_out=existing.ids)
    reader = _ListedPhotos(files, form=form, short_side=short_side)
    folder = images[0]
    listed = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else images
    how = [asdict(form), swapped, short_side]
    recipe = fingerprint(
        "csv", CHECKS_VERSION, how, file_digest(table), [(str(path), *_size_and_time(path)) for path in listed]
    )
    with ThreadPoolExecutor() as pool:
        writer = PhotoWriter(
            out=out,
            existing=existing,
            recipe=recipe,
            entries=rows,
            read=reader.read,
            pool=pool,
            more_columns={name: pa.string() for name in rows.more_columns},
            progress=progress,
        )
        manifest = writer.write(max_quarantine_share=max_quarantine_share)
    return _with_counts(manifest, existing, already_there=rows.already_there)


def open_images(paths: Sequence[Path], *, members: Path, progress: Progress) -> ImageFiles:
    """The images of a folder, a .zip, a .tar, or the parts of a tar, whose table of members is kept at `members`.

    Raises InputError if `paths` are none of these.
    """
    first = paths[0]
    if len(paths) == 1 and first.is_dir():
        return FolderImages(first)
    if wrong := next((path for path in paths if not path.is_file()), None):
        raise InputError(f"{wrong} is not a file; give one folder, one .zip, or the .tar or all its parts")
    if first.suffix.lower() == ".zip":
        if len(paths) > 1:
            raise InputError(f"{first} is followed by {len(paths) - 1} more files; give one .zip")
        return ZipImages(first)
    return TarImages(paths, kept_in=members, progress=progress)


@dataclass(frozen=True)
class _ListedPhotos:
    """Reads the photos of a table's rows."""

    files: ImageFiles
    form: TableFormat
    short_side: int | None

    def read(self, row: TableRow) -> IngestedPhoto:
        """One photo with its image, or with a fault."""
        fault, data, taken = row.fault, b"", None
        if fault is None:
            try:
                data, taken = self._image(row.id)
            except UndecodableImage as error:
                fault = str(error)
            except FileNotFoundError:
                fault = "missing file"
            except OSError as error:
                fault = f"unreadable file ({error.strerror})"
        return IngestedPhoto(row.id, row.latitude, row.longitude, row.author, data, fault, taken, dict(row.more))

    def _image(self, photo_id: str) -> tuple[bytes, datetime | None]:
        """The image and its time of exposure. Raises UndecodableImage if it is not a usable photo."""
        data = self.files.read(photo_id)
        if len(data) < self.form.least_bytes:
            raise UndecodableImage(f"placeholder ({len(data)} bytes)")
        if self.short_side is None:
            return data, exif_taken(check_image(data))
        return with_short_side(data, self.short_side), exif_taken(image_metadata(data))


def _with_counts(manifest: dict[str, Any], existing: ExistingSet, already_there: int) -> dict[str, Any]:
    return {**manifest, "added": manifest["photos"] - len(existing.ids), "already_there": already_there}


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # a broken link
        status = path.lstat()
    return status.st_size, status.st_mtime_ns
