"""Decoding, EXIF positions and the photo set contract."""

import contextlib
import struct
import zlib
from fractions import Fraction

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_images import encoded, gps_exif, picture, sexagesimal
from PIL import Image
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import IFDRational

from dualgeo_core.photos.decode import UndecodableImage, check_image, decode_image
from dualgeo_core.photos.exif import exif_artist, exif_position


@pytest.mark.parametrize("form", ["JPEG", "PNG", "HEIF", "WEBP"])
def test_photo_formats_decode_to_the_picture(form: str) -> None:
    if form == "HEIF":
        pillow_heif.register_heif_opener()
    image = decode_image(encoded(picture(), form))
    assert image.mode == "RGB"
    difference = np.abs(np.asarray(image, float) - np.asarray(picture(), float))
    assert difference.mean() < 6


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    image = decode_image(encoded(picture(48, 32), exif=exif))
    assert image.size == (32, 48)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert decode_image(encoded(picture().convert(mode), form)).mode == "RGB"


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    grey = Image.fromarray(np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16))
    shades = np.asarray(decode_image(encoded(grey, "PNG")))
    assert shades[0, 0, 0] == 0
    assert shades[-1, -1, 0] == 255
    assert 100 < shades.mean() < 155


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "undecodable"),
        (b"not an image at all", "undecodable"),
        (encoded(picture(200, 200))[:-900], "undecodable"),
        (encoded(picture(200, 200), "PNG")[:-200], "undecodable"),
        (encoded(picture(), "BMP"), "undecodable"),
    ],
)
def test_broken_bytes_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(UndecodableImage, match=reason):
        decode_image(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    idat = b"IDAT" + zlib.compress(b"\0" * 1000)
    bomb += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    with pytest.raises(UndecodableImage, match="decompression bomb"):
        decode_image(bomb)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 600))
def test_damaged_photos_never_raise_anything_else(noise: bytes, at: int) -> None:
    whole = encoded(picture())
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    with contextlib.suppress(UndecodableImage):
        decode_image(damaged)


@settings(max_examples=100, deadline=None)
@given(st.floats(-90, 90), st.floats(-180, 180))
def test_positions_survive_the_way_through_exif(latitude: float, longitude: float) -> None:
    exif = gps_exif(
        sexagesimal(latitude), "S" if latitude < 0 else "N", sexagesimal(longitude), "W" if longitude < 0 else "E"
    )
    position = exif_position(check_image(encoded(picture(8, 8), exif=exif)))
    # A ten-thousandth of a second is 3 mm.
    assert position.latitude == pytest.approx(latitude, abs=2e-8)
    assert position.longitude == pytest.approx(longitude, abs=2e-8)


def test_decimal_degrees_and_lower_case_references_are_read() -> None:
    degrees = (IFDRational(Fraction(338651, 10000)), IFDRational(0, 1), IFDRational(0, 1))
    position = exif_position(check_image(encoded(picture(), exif=gps_exif(degrees, "s", degrees, "e"))))
    assert (position.latitude, position.longitude) == (pytest.approx(-33.8651), pytest.approx(33.8651))
    assert position.fault is None


THREE = (IFDRational(3, 1), IFDRational(0, 1), IFDRational(0, 1))


@pytest.mark.parametrize(
    ("exif", "fault"),
    [
        (Image.Exif(), "no coordinates"),
        (gps_exif(THREE, None, THREE, "E"), "no hemisphere"),
        (gps_exif(THREE, "N", THREE, "X"), "no hemisphere"),
        (gps_exif((IFDRational(1, 0),) * 3, "N", THREE, "E"), "no coordinates"),
        (gps_exif((IFDRational(3, 1),) * 4, "N", THREE, "E"), "malformed GPS (4 numbers instead of"),
        (gps_exif((IFDRational(3, 1), IFDRational(75, 1), IFDRational(0, 1)), "N", THREE, "E"), "malformed GPS (min"),
        (gps_exif((IFDRational(91, 1), *THREE[1:]), "N", THREE, "E"), "out of range"),
        (gps_exif((IFDRational(0, 1),) * 3, "N", (IFDRational(0, 1),) * 3, "E"), "0,0"),
    ],
)
def test_unusable_positions_say_why(exif: Image.Exif, fault: str) -> None:
    position = exif_position(check_image(encoded(picture(), exif=exif)))
    assert fault in (position.fault or "")


def test_signed_degrees_are_not_guessed_at() -> None:
    """-33 with the reference S may mean either hemisphere; EXIF's degrees are unsigned."""
    data = encoded(picture(), exif=gps_exif((IFDRational(33, 1), *THREE[1:]), "S", THREE, "E"))
    order = ">" if b"MM\0*" in data else "<"
    unsigned, signed = (struct.pack(f"{order}HHL", 2, form, 3) for form in (5, 10))
    for old, new in ((unsigned, signed), (struct.pack(f"{order}ll", 33, 1), struct.pack(f"{order}ll", -33, 1))):
        assert data.count(old) == 1
        data = data.replace(old, new)
    assert exif_position(check_image(data)).fault == "malformed GPS (negative degrees, minutes or seconds)"


def test_the_artist_is_the_author() -> None:
    exif = Image.Exif()
    exif[Base.Artist] = "Ada Lovelace"
    assert exif_artist(check_image(encoded(picture(), exif=exif))) == "Ada Lovelace"
    assert exif_artist(check_image(encoded(picture()))) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=60), st.integers(0, 260))
def test_a_damaged_exif_block_is_no_more_than_a_missing_position(noise: bytes, at: int) -> None:
    exif = gps_exif(sexagesimal(48.1), "N", sexagesimal(11.5), "E")
    exif[Base.Artist] = "someone"
    whole = encoded(picture(), exif=exif)
    start = whole.index(b"Exif") + 6 + at
    damaged = whole[:start] + noise + whole[start + len(noise) :]
    with contextlib.suppress(UndecodableImage):
        image = check_image(damaged)
        position = exif_position(image)
        exif_artist(image)
        assert position.fault or (-90 <= position.latitude <= 90 and -180 <= position.longitude <= 180)
