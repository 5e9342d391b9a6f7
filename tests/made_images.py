"""Small images with any EXIF, for the tests of photo sets."""

import io

import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD
from PIL.TiffImagePlugin import IFDRational


def picture(width: int = 48, height: int = 32) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 4, columns * 4, rows + columns], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", exif: Image.Exif | None = None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"exif": exif} if exif else {}))
    return buffer.getvalue()


def gps_exif(latitude: object, north_south: str | None, longitude: object, east_west: str | None) -> Image.Exif:
    exif = Image.Exif()
    gps = {GPS.GPSLatitude: latitude, GPS.GPSLongitude: longitude}
    if north_south is not None:
        gps[GPS.GPSLatitudeRef] = north_south
    if east_west is not None:
        gps[GPS.GPSLongitudeRef] = east_west
    exif.get_ifd(IFD.GPSInfo).update(gps)
    exif[IFD.GPSInfo] = gps
    return exif


def sexagesimal(degrees: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Degrees as cameras write them: whole degrees and minutes, and seconds to a ten-thousandth."""
    ticks = round(abs(degrees) * 3600 * 10_000)
    whole, rest = divmod(ticks, 3600 * 10_000)
    minutes, seconds = divmod(rest, 60 * 10_000)
    return IFDRational(whole, 1), IFDRational(minutes, 1), IFDRational(seconds, 10_000)
