"""Position, photographer and orientation of a photo, read from its EXIF and XMP."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from dualgeo_core.base.files import one_line
from dualgeo_core.base.geo import coordinate_fault

# XMP (ISO 16684): "48,51.6N" or "48,51,36N", as an attribute or as an element.
_XMP = r"""exif:GPS{name}\s*(?:=\s*["']|>)\s*([^"'<]*)"""
NO_POSITION = "no coordinates"
_XMP_DEGREES = re.compile(r"(\d+),(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?\s*([NSEW])")


@dataclass(frozen=True)
class Metadata:
    """What EXIF and XMP say. `fault` is the reason why the EXIF could not be read, or None."""

    orientation: Any = 1
    artist: Any = None
    taken: Any = None
    offset: Any = None
    camera: tuple[Any, Any, Any] = (None, None, None)
    gps: dict[int, Any] = field(default_factory=dict)
    xmp: str = ""
    fault: str | None = None


@dataclass(frozen=True)
class Position:
    """Latitude and longitude in degrees, NaN if unknown. `fault` is the reason why they are unusable, or None."""

    latitude: float
    longitude: float
    fault: str | None


def read_metadata(image: Image.Image) -> Metadata:
    """The photo's metadata. Unreadable EXIF is a fault, not an error: the pixels may be intact."""
    fault = None

    def read(get: Callable[[], Any], default: Any) -> Any:
        nonlocal fault
        try:
            return get()
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises almost any exception on broken EXIF
            fault = fault or f"unreadable EXIF ({one_line(error)})"
            return default

    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or ""
    exif = read(lambda: _exif(image), Image.Exif())
    return Metadata(
        orientation=read(lambda: exif.get(Base.Orientation, 1), 1),
        artist=read(lambda: exif.get(Base.Artist), None),
        taken=read(lambda: exif.get_ifd(IFD.Exif).get(Base.DateTimeOriginal), None),
        offset=read(lambda: exif.get_ifd(IFD.Exif).get(Base.OffsetTimeOriginal), None),
        camera=read(lambda: _camera(exif), (None, None, None)),
        gps=read(lambda: dict(exif.get_ifd(IFD.GPSInfo)), {}),
        xmp=packet.decode("utf-8", errors="replace") if isinstance(packet, bytes) else str(packet),
        fault=fault,
    )


def _camera(exif: Image.Exif) -> tuple[Any, Any, Any]:
    """Make, model and serial number."""
    return exif.get(Base.Make), exif.get(Base.Model), exif.get_ifd(IFD.Exif).get(Base.BodySerialNumber)


def _exif(image: Image.Image) -> Image.Exif:
    if (block := image.info.get("exif")) is not None:
        Image.Exif().load(block)  # raises what the opening of a JPEG has swallowed
    return image.getexif()


def exif_position(metadata: Metadata) -> Position:
    """The GPS position (EXIF 2.32, section 4.6.6), or XMP's if the EXIF has none.

    A missing hemisphere is a fault; N or E is never assumed.
    """
    gps = metadata.gps
    if GPS.GPSLatitude not in gps or GPS.GPSLongitude not in gps:
        return _xmp_position(metadata.xmp) or _unplaced(metadata.fault or NO_POSITION)
    north = {"N": 1, "S": -1}.get(_hemisphere(gps.get(GPS.GPSLatitudeRef)))
    east = {"E": 1, "W": -1}.get(_hemisphere(gps.get(GPS.GPSLongitudeRef)))
    if north is None or east is None:
        return _unplaced("no hemisphere (GPS reference N/S or E/W missing)")
    try:
        latitude, longitude = _degrees(gps[GPS.GPSLatitude]), _degrees(gps[GPS.GPSLongitude])
    except ValueError as error:
        return _unplaced(f"malformed GPS ({error})")
    return _position(north * latitude, east * longitude)


def xmp_has_position(xmp: str) -> bool:
    """Whether an XMP document states a latitude, usable or not."""
    return re.search(_XMP.format(name="Latitude"), xmp) is not None


def exif_artist(metadata: Metadata) -> str | None:
    """The photographer's name, or None if EXIF does not contain it."""
    return _text(metadata.artist)


def exif_camera(metadata: Metadata) -> str | None:
    """Make, model and serial number of the camera in one line, or None if EXIF contains none of them."""
    return " ".join(filter(None, map(_text, metadata.camera))) or None


def exif_gps_time(metadata: Metadata) -> datetime | None:
    """The time of the GPS position (EXIF 2.32, GPSDateStamp and GPSTimeStamp, UTC); None if unknown or malformed."""
    day = _time(str(metadata.gps.get(GPS.GPSDateStamp) or "").strip("\0 "), "%Y:%m:%d")
    clock = metadata.gps.get(GPS.GPSTimeStamp)
    if day is None or not isinstance(clock, tuple) or len(clock) != 3:
        return None
    try:
        hours, minutes, seconds = (float(part) for part in clock)
        return day.replace(tzinfo=UTC) + timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):  # NaN for a missing fix
        return None


def _text(value: Any) -> str | None:
    # Pillow reads EXIF text as Latin-1; cameras and tools write UTF-8.
    raw = value if isinstance(value, bytes) else str(value or "").encode("latin-1", errors="replace")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return " ".join(text.replace("\0", " ").split()) or None


def exif_taken(metadata: Metadata) -> datetime | None:
    """The time of exposure (EXIF 2.32, DateTimeOriginal), with its zone if EXIF has it; None if unknown or malformed.

    Cameras write zeros or blanks for an unset clock.
    """
    taken, offset = (str(text or "").strip("\0 ") for text in (metadata.taken, metadata.offset))
    time = _time(f"{taken}{offset}", "%Y:%m:%d %H:%M:%S%z")
    return time or _time(taken, "%Y:%m:%d %H:%M:%S")


def _time(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def _position(latitude: float, longitude: float) -> Position:
    return Position(latitude, longitude, coordinate_fault(latitude, longitude))


def _unplaced(fault: str) -> Position:
    return Position(math.nan, math.nan, fault)


def _hemisphere(reference: Any) -> str:
    text = reference.decode("ascii", errors="replace") if isinstance(reference, bytes) else str(reference or "")
    return text.strip("\0 ").upper()


def _degrees(value: Any) -> float:
    """Degrees from degrees[, minutes[, seconds]]; NaN if a denominator is 0, as receivers without a fix write it.

    Raises ValueError if they are not unsigned rational numbers in their ranges.
    """
    parts = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, IFDRational) for part in parts):
        raise ValueError("degrees are not rational numbers")
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"{len(parts)} numbers instead of degrees, minutes and seconds")
    if any(part.denominator == 0 for part in parts):
        return math.nan
    return _sum_of_parts([float(part) for part in parts])


def _sum_of_parts(parts: list[float]) -> float:
    if min(parts) < 0:
        raise ValueError("negative degrees, minutes or seconds")
    if max(parts[1:], default=0) > 60:  # exactly 60 comes from rounding
        raise ValueError("minutes or seconds over 60")
    return sum(part / 60**power for power, part in enumerate(parts))


def _xmp_position(xmp: str) -> Position | None:
    found = [re.search(_XMP.format(name=name), xmp) for name in ("Latitude", "Longitude")]
    texts = [text[1].strip() for text in found if text and text[1].strip()]
    if len(texts) < 2:
        return None
    degrees = []
    for text, hemispheres in zip(texts, ("NS", "EW"), strict=True):
        parts = _XMP_DEGREES.fullmatch(text.upper())
        if parts is None or parts[4] not in hemispheres:
            return _unplaced(f"malformed GPS (XMP has {text[:40]!r})")
        try:
            size = _sum_of_parts([float(part) for part in parts.groups()[:3] if part])
        except ValueError as error:
            return _unplaced(f"malformed GPS ({error})")
        degrees.append(-size if parts[4] in "SW" else size)
    return _position(*degrees)
