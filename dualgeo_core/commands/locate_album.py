"""`dualgeo locate --album`: the photos of each camera located together."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualgeo_core.base.errors import InputError

if TYPE_CHECKING:
    from dualgeo_core.answering.answers import Answer
    from dualgeo_core.answering.base_locator import BaseLocator
    from dualgeo_core.photos.cameras import CameraAlbum
    from dualgeo_core.photos.exif import Metadata


def album_answers(
    locator: "BaseLocator", paths: list[Path], *, spread: bool, tell: Callable[[str], Any]
) -> Iterator[tuple[Path, "Answer | InputError", str | None]]:
    """The answer for each photo, or why it cannot be read, and its camera; in the order of capture times.

    `tell` gets one line per camera, and one for each camera whose clock disagrees with its own GPS.
    """
    from dualgeo_core.answering.photo_inputs import DecodedWhenTaken
    from dualgeo_core.photos.cameras import albums_by_camera

    readable: list[tuple[Path, Metadata]] = []
    for path in paths:
        metadata = _metadata(path)
        if isinstance(metadata, InputError):
            yield path, metadata, None
        else:
            readable.append((path, metadata))
    for album in albums_by_camera(readable):
        tell(_summary(album))
        photos = album.photos
        answers = locator.locate_album(
            names=[str(photo.path) for photo in photos],
            images=DecodedWhenTaken([photo.path for photo in photos]),
            taken=[photo.taken for photo in photos],
            positions=[photo.position for photo in photos],
            spread=spread,
        )
        for photo, answer in zip(photos, answers, strict=True):
            yield photo.path, answer, album.camera


def _metadata(path: Path) -> "Metadata | InputError":
    """The metadata of a photo whose pixels are whole, or the error that says why they are not."""
    from dualgeo_core.answering.photo_inputs import photo_bytes, unreadable
    from dualgeo_core.photos.decode import UndecodableImage, check_image

    try:
        return check_image(photo_bytes(path))
    except UndecodableImage as error:
        return unreadable(str(path), str(error))
    except InputError as error:
        return error


def _summary(album: "CameraAlbum") -> str:
    known = sum(photo.position is not None for photo in album.photos)
    timed = sum(photo.taken is not None for photo in album.photos)
    line = f"{album.camera}: {len(album.photos)} photos, {timed} with a time, {known} with GPS of their own"
    error = album.clock_error
    return line if error is None else f"{line}; its clock is {_duration(error)} its own GPS"


def _duration(error: timedelta) -> str:
    minutes = round(abs(error.total_seconds()) / 60)
    days, rest = divmod(minutes, 24 * 60)
    size = f"{days} days {rest // 60} h {rest % 60} min" if days else f"{rest // 60} h {rest % 60} min"
    return f"{size} {'ahead of' if error > timedelta(0) else 'behind'}"
