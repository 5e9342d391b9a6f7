"""Photo sets from your own files: a folder of photos with GPS in their EXIF or XMP, or a table and its images."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, fingerprint
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.decode import UndecodableImage, check_image
from dualgeo_core.photos.exif import exif_artist, exif_position, exif_taken
from dualgeo_core.photos.existing import ExistingSet, open_existing
from dualgeo_core.photos.image_files import SUFFIXES, FolderImages, ImageFiles, open_images, read_photo
from dualgeo_core.photos.listing import list_folder
from dualgeo_core.photos.table import PhotoTable, TableRow
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter, check_out

CHECKS_VERSION = 3  # part of the recipe; raise it with every change of what is accepted


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
    images: Path,
    out: Path,
    max_quarantine_share: float,
    add: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes the set of a CSV's photos. An id is the name of a file in `images`, a folder or a .tar archive.

    Of rows with the same file only the first is used. `add`, the returned counts and errors are as for `ingest_folder`.
    """
    check_out(out)
    existing = open_existing(out) if add else ExistingSet()
    files = open_images(images, progress)
    rows = PhotoTable(table, files, left_out=existing.ids)

    def read(row: TableRow) -> IngestedPhoto:
        return read_listed_photo(files, row)

    listed = sorted(path for path in images.rglob("*") if path.is_file()) if images.is_dir() else [images]
    recipe = fingerprint(
        "csv", CHECKS_VERSION, file_digest(table), [(str(path), *_size_and_time(path)) for path in listed]
    )
    with ThreadPoolExecutor() as pool:
        writer = PhotoWriter(
            out=out, existing=existing, recipe=recipe, entries=rows, read=read, pool=pool, progress=progress
        )
        manifest = writer.write(max_quarantine_share=max_quarantine_share)
    return _with_counts(manifest, existing, already_there=rows.already_there)


def read_listed_photo(files: ImageFiles, row: TableRow) -> IngestedPhoto:
    """One photo of a table, with its image, or with a fault."""
    fault = row.fault
    data, taken = b"", None
    if fault is None:
        try:
            data = files.read(row.id)
            taken = exif_taken(check_image(data))
        except UndecodableImage as error:
            fault = str(error)
        except FileNotFoundError:
            fault = "missing file"
        except OSError as error:
            fault = f"unreadable file ({error.strerror})"
    return IngestedPhoto(row.id, row.latitude, row.longitude, row.author, data, fault, taken)


def _with_counts(manifest: dict[str, Any], existing: ExistingSet, already_there: int) -> dict[str, Any]:
    return {**manifest, "added": manifest["photos"] - len(existing.ids), "already_there": already_there}


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # a broken link
        status = path.lstat()
    return status.st_size, status.st_mtime_ns
