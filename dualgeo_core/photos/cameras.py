"""Albums: the photos of one camera, with capture times, known positions, and the error of the camera's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from dualgeo_core.photos.exif import (
    Metadata,
    exif_artist,
    exif_camera,
    exif_gps_time,
    exif_position,
    exif_taken,
)

DEGREES_PER_HOUR = 15
WIDEST_ZONE = timedelta(hours=4)  # between the clocks of a place and its solar time
TOLERATED = timedelta(minutes=2)
ZONE_STEP = timedelta(minutes=15)  # all zones are multiples of it


@dataclass(frozen=True)
class AlbumPhoto:
    """A photo with its capture time and its own position (latitude, longitude), where known."""

    path: Path
    taken: datetime | None
    position: tuple[float, float] | None
    clock_error: timedelta | None


@dataclass(frozen=True)
class CameraAlbum:
    """The photos of one camera, in the order of their capture times; photos without time come last."""

    camera: str
    photos: tuple[AlbumPhoto, ...]

    @property
    def clock_error(self) -> timedelta | None:
        """How far the camera's clock is ahead of its own GPS; None if they agree or the photos do not tell."""
        errors = [photo.clock_error for photo in self.photos if photo.clock_error is not None]
        typical = timedelta(seconds=round(median(error.total_seconds() for error in errors))) if errors else None
        return typical if typical is not None and abs(typical) > TOLERATED else None


def albums_by_camera(photos: Sequence[tuple[Path, Metadata]]) -> list[CameraAlbum]:
    """The photos by camera: EXIF make, model and serial number, else the author, else the folder. None is mixed."""
    by_camera: dict[str, list[AlbumPhoto]] = {}
    for path, metadata in photos:
        by_camera.setdefault(_camera(path, metadata), []).append(_album_photo(path, metadata))
    return [CameraAlbum(camera, tuple(sorted(members, key=_by_time))) for camera, members in sorted(by_camera.items())]


def _camera(path: Path, metadata: Metadata) -> str:
    camera, author = exif_camera(metadata), exif_artist(metadata)
    if camera is not None:
        return f"camera {camera}"
    return f"author {author}" if author is not None else f"folder {path.parent}"


def _by_time(photo: AlbumPhoto) -> tuple[bool, float, str]:
    if photo.taken is None:
        return True, 0.0, str(photo.path)
    aware = photo.taken if photo.taken.tzinfo else photo.taken.replace(tzinfo=UTC)
    return False, aware.timestamp(), str(photo.path)


def _album_photo(path: Path, metadata: Metadata) -> AlbumPhoto:
    found = exif_position(metadata)
    position = (found.latitude, found.longitude) if found.fault is None else None
    taken, gps_time = exif_taken(metadata), exif_gps_time(metadata)
    known = taken is not None and gps_time is not None and position is not None
    error = _clock_error(taken, gps_time, position[1]) if known else None  # type: ignore[arg-type, index]
    return AlbumPhoto(path=path, taken=taken, position=position, clock_error=error)


def _clock_error(taken: datetime, gps_time: datetime, longitude: float) -> timedelta:
    """The camera's time minus GPS time; without a zone, minus the zone of the place as far as it can be told."""
    if taken.tzinfo is not None:
        return taken - gps_time
    ahead = taken.replace(tzinfo=UTC) - gps_time
    solar = timedelta(hours=longitude / DEGREES_PER_HOUR)
    zone = round(ahead / ZONE_STEP) * ZONE_STEP
    return ahead - zone if abs(zone - solar) <= WIDEST_ZONE else ahead - solar
