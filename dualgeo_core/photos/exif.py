"""Position and photographer of a photo, read from its EXIF."""

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from dualgeo_core.base.geo import coordinate_fault


@dataclass(frozen=True)
class Position:
    """Latitude and longitude in degrees, NaN if unknown. `fault` is the reason why they are unusable, or None."""

    latitude: float
    longitude: float
    fault: str | None


def exif_position(image: Image.Image) -> Position:
    """The GPS position (EXIF 2.32, section 4.6.6). A missing hemisphere is a fault; N or E is never assumed."""
    gps = image.getexif().get_ifd(IFD.GPSInfo)
    if not gps or GPS.GPSLatitude not in gps or GPS.GPSLongitude not in gps:
        return Position(math.nan, math.nan, "no coordinates")
    north_south = _hemisphere(gps.get(GPS.GPSLatitudeRef))
    east_west = _hemisphere(gps.get(GPS.GPSLongitudeRef))
    if north_south not in ("N", "S") or east_west not in ("E", "W"):
        return Position(math.nan, math.nan, "no hemisphere (GPS reference N/S or E/W missing)")
    latitude = _degrees(gps[GPS.GPSLatitude]) * (-1 if north_south == "S" else 1)
    longitude = _degrees(gps[GPS.GPSLongitude]) * (-1 if east_west == "W" else 1)
    return Position(latitude, longitude, coordinate_fault(latitude, longitude))


def exif_artist(image: Image.Image) -> str | None:
    """The photographer's name, or None if EXIF does not contain it."""
    artist = image.getexif().get(Base.Artist) or ""
    # Pillow reads EXIF text as Latin-1; cameras and tools write UTF-8.
    raw = artist if isinstance(artist, bytes) else str(artist).encode("latin-1", errors="replace")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return " ".join(text.replace("\0", " ").split()) or None


def _hemisphere(reference: Any) -> str:
    text = reference.decode("ascii", errors="replace") if isinstance(reference, bytes) else str(reference or "")
    return text.strip("\0 ").upper()


def _degrees(value: Any) -> float:
    """Degrees from (degrees, minutes, seconds); NaN if they are malformed, negative or have a zero denominator."""
    try:
        degrees, minutes, seconds = (float(part) for part in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return math.nan
    return degrees + minutes / 60 + seconds / 3600 if min(degrees, minutes, seconds) >= 0 else math.nan
