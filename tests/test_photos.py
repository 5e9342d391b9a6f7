"""Decoding: the same pixels as Pillow's, damage by its reason, positions from EXIF and XMP, and bounded memory."""

import contextlib
import io
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pillow_heif
import pytest
from hostile_files import (
    XMP,
    closed,
    grey16,
    latitude_of_another_type,
    photo,
    taller,
    view,
    with_broken_exif,
    with_chunk,
    with_many_warnings,
    zeroed,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from made_images import encoded, gps_exif, picture, sexagesimal
from PIL import Image, ImageOps
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from dualgeo_core.photos import decode
from dualgeo_core.photos.decode import UndecodableImage, check_image, decode_image
from dualgeo_core.photos.exif import exif_artist, exif_position, exif_taken
from dualgeo_core.photos.heif_boxes import truncation


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


@pytest.mark.parametrize(
    ("taken", "offset", "iso"),
    [
        ("2008:05:17 14:03:00", "+02:00", "2008-05-17T14:03:00+02:00"),
        ("2008:05:17 14:03:00\0", None, "2008-05-17T14:03:00"),
        ("2008:05:17 14:03:00", "+2", "2008-05-17T14:03:00"),
        ("0000:00:00 00:00:00", None, None),
        ("    :  :     :  :  ", "   :  ", None),
    ],
)
def test_the_time_of_exposure_is_read_where_the_clock_was_set(taken: str, offset: str | None, iso: str | None) -> None:
    exif = Image.Exif()
    exif[IFD.Exif] = {Base.DateTimeOriginal: taken} | ({Base.OffsetTimeOriginal: offset} if offset else {})
    found = exif_taken(check_image(encoded(picture(), exif=exif)))
    assert (found and found.isoformat()) == iso
    assert exif_taken(check_image(encoded(picture()))) is None


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
        exif_taken(image)
        assert position.fault or (-90 <= position.latitude <= 90 and -180 <= position.longitude <= 180)


# --- pixels ---


def pillows_pixels(data: bytes) -> np.ndarray:
    """What Pillow alone makes of a photo."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def unusual_sampling() -> bytes:
    """A grey JPEG with 4 x 2 luma samples per chroma sample, in one block that is written by hand."""
    grey = photo(image=Image.new("RGB", (32, 16), (128, 128, 128)), exif=Image.Exif(), subsampling=0)
    frame, scan = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
    start = scan + 2 + int.from_bytes(grey[scan + 2 : scan + 4], "big")
    bits = "001010" * 8 + "0000" * 2  # 8 luma blocks and 2 chroma blocks without a coefficient
    scan_data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = bytearray(grey[:start])
    header[frame + 11] = 0x42
    return bytes(header) + scan_data + b"\xff\xd9"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(320, 240), (17, 33), (1, 1), (8, 9)])
def test_jpegs_have_pillows_pixels_to_the_bit(size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    image = view(orientation, *size)
    for mode in ("RGB", "L", "CMYK"):
        for options in ({"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}):
            quality = {"quality": 60 + 5 * orientation}
            data = photo(image=image.convert(mode), exif=exif, **(options if mode == "RGB" else {}), **quality)
            assert np.array_equal(np.asarray(decode_image(data)), pillows_pixels(data)), (mode, options)


def test_jpegs_of_rare_kinds_have_pillows_pixels_to_the_bit() -> None:
    for data in (photo(keep_rgb=True), photo(restart_marker_rows=1), photo() + b"a trailer", unusual_sampling()):
        assert np.array_equal(np.asarray(decode_image(data)), pillows_pixels(data))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "HEIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_other_formats_have_pillows_pixels_to_the_bit(form: str, mode: str) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    data = photo(form, image=view().convert(mode), exif=exif)
    assert np.array_equal(np.asarray(decode_image(data)), pillows_pixels(data))


def test_decoded_photos_have_no_metadata() -> None:
    """A comment would be saved again in each copy of the photo, also in those that leave the machine."""
    for form in ("JPEG", "PNG", "WEBP", "HEIF"):
        image = decode_image(photo(form, **({"comment": b"secret"} if form == "JPEG" else {})))
        assert image.info == {}
        assert not image.getexif()


# --- damage ---


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_damaged_jpegs_are_refused(options: dict[str, object]) -> None:
    whole = photo(**options)
    damaged = [closed(whole, share) for share in (0.2, 0.5, 0.8, 0.95)]
    damaged += [zeroed(whole, len(whole) // 3), whole[:-2], whole[: len(whole) // 2]]
    for data in damaged:
        with pytest.raises(UndecodableImage, match=r"undecodable \((Corrupt JPEG|Premature end)"):
            decode_image(data)


def test_a_damaged_cmyk_jpeg_is_refused() -> None:
    with pytest.raises(UndecodableImage, match="Corrupt JPEG"):
        decode_image(closed(photo(image=view().convert("CMYK")), 0.5))


def test_a_jpeg_higher_than_its_data_is_refused() -> None:
    with pytest.raises(UndecodableImage, match="undecodable"):
        decode_image(taller(photo()))


def with_open_end(heic: bytes) -> bytes:
    """The HEIC with a last box of size 0, which means that it ends with the file, wherever that is cut."""
    at = heic.index(b"mdat") - 4
    return heic[:at] + bytes(4) + heic[at + 4 :]


@pytest.mark.parametrize("written", [bytes, with_open_end])
def test_a_truncated_tiled_heic_is_refused(written: Callable[[bytes], bytes]) -> None:
    whole = written(photo("HEIF", exif=Image.Exif(), tile_size=64))
    assert decode_image(whole).size == (320, 240)
    for share in (0.15, 0.3, 0.6, 0.9, 0.99):
        part = whole[: int(len(whole) * share)]
        with pytest.raises(UndecodableImage, match=rf"truncated: {len(part)} of \d+ bytes"):
            decode_image(part)


def test_a_truncated_heic_is_refused_whatever_libheif_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions draw the missing tiles in one colour, as if they had decoded the whole file."""
    whole = photo("HEIF", exif=Image.Exif(), tile_size=64)
    monkeypatch.setitem(decode.FORMATS, "HEIF", lambda file: pillow_heif.HeifImageFile(io.BytesIO(whole)))
    part = whole[: len(whole) // 2]
    with pytest.raises(UndecodableImage, match=rf"truncated: {len(part)} of {len(whole)} bytes"):
        check_image(part)


def boxed(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("in_file", [True, False])
def test_byte_ranges_of_every_form_of_the_box_are_read(version: int, in_file: bool) -> None:
    """Two ranges, of which the second ends at byte 1000, with a base offset and 4-byte numbers."""
    count, number = (">I", ">I") if version == 2 else (">H", ">H")
    method = b"" if version == 0 else struct.pack(">H", 0 if in_file else 1)
    item = struct.pack(number, 1) + method + struct.pack(">HIH", 0, 500, 2) + struct.pack(">IIII", 0, 100, 300, 200)
    listed = boxed(b"iloc", bytes([version, 0, 0, 0]) + struct.pack(">H", 0x4440) + struct.pack(count, 1) + item)
    start = boxed(b"ftyp", b"heic") + boxed(b"meta", bytes(4) + boxed(b"hdlr", bytes(20)) + listed)
    assert truncation(start.ljust(1000, b"x")) is None
    outside = in_file or version == 0
    assert truncation(start.ljust(999, b"x")) == ("999 of 1000 bytes" if outside else None)
    assert truncation(start[:-1]) is None  # libheif reports a damaged box


def test_the_reason_of_a_refusal_is_the_decoders() -> None:
    """Never `None`, and never `not a HEIC` for a damaged HEIC."""
    bomb = with_chunk(photo("PNG"), b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)), before=b"IEND")
    heic = photo("HEIF")
    for data in (bomb, photo("PNG")[:300], heic[:40] + bytes(80) + heic[120:]):
        with pytest.raises(UndecodableImage) as error:
            check_image(data)
        assert "None" not in str(error.value)
        assert "not a JPEG" not in str(error.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_broken_exif_leaves_the_pixels_and_is_the_reason_for_no_position(form: str) -> None:
    data = with_broken_exif(form)
    assert decode_image(data).size == (320, 240)
    assert (exif_position(check_image(data)).fault or "").startswith("unreadable EXIF (")


def test_exif_text_that_is_not_hexadecimal_leaves_the_pixels() -> None:
    text = b"Raw profile type exif\0\nexif\n 8\nnot hex"
    data = with_chunk(photo("PNG", exif=Image.Exif()), b"tEXt", text)
    assert decode_image(data).size == (320, 240)
    assert (exif_position(check_image(data)).fault or "").startswith("unreadable EXIF (")


# --- positions ---


@pytest.mark.parametrize("form", [1, 3, 4, 6, 7, 8, 9, 11, 12])
def test_a_latitude_of_another_type_is_refused(form: int) -> None:
    fault = exif_position(check_image(latitude_of_another_type(form))).fault
    assert fault == "malformed GPS (degrees are not rational numbers)"


def test_degrees_with_and_without_minutes_and_seconds_are_read() -> None:
    def rationals(*parts: str) -> tuple[IFDRational, ...]:
        return tuple(IFDRational(Fraction(part)) for part in parts)

    for latitude in (rationals("48.86"), rationals("48", "51.6"), rationals("48", "51", "36")):
        position = exif_position(check_image(photo(exif=gps_exif(latitude, "N", rationals("2", "21"), "W"))))
        assert (position.latitude, position.longitude) == (pytest.approx(48.86), pytest.approx(-2.35))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "HEIF", "PNG"])
def test_a_position_in_xmp_is_read(form: str) -> None:
    plain = photo(form, exif=Image.Exif(), **({} if form == "PNG" else {"xmp": XMP}))
    data = with_chunk(plain, b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP) if form == "PNG" else plain
    position = exif_position(check_image(data))
    assert (position.latitude, position.longitude) == (pytest.approx(48.86), pytest.approx(2.35))


@pytest.mark.parametrize(
    ("latitude", "outcome"),
    [
        (b"48,51,36S", -48.86),
        (b"48,51.6N", 48.86),
        (b"48.86", "malformed GPS (XMP has '48.86')"),
        (b"48,75.0N", "malformed GPS (minutes or seconds over 60)"),
        (b"48,51.6E", "malformed GPS (XMP has '48,51.6E')"),
        (b"91,0.0N", "coordinates out of range (91, 2.35)"),
        (b"", "no coordinates"),
    ],
)
def test_degrees_in_xmp_are_read_strictly(latitude: bytes, outcome: float | str) -> None:
    for packet in (
        XMP.replace(b"48,51.6N", latitude),
        XMP.replace(b'exif:GPSLatitude="48,51.6N"', b"").replace(
            b"</rdf:RDF>", b"<exif:GPSLatitude>" + latitude + b"</exif:GPSLatitude></rdf:RDF>"
        ),
    ):
        position = exif_position(check_image(photo(exif=Image.Exif(), xmp=packet)))
        assert (position.fault or pytest.approx(position.latitude)) == outcome


def test_the_position_in_exif_comes_before_that_in_xmp() -> None:
    exif = gps_exif(sexagesimal(10), "N", sexagesimal(20), "E")
    assert exif_position(check_image(photo(exif=exif, xmp=XMP))).latitude == pytest.approx(10)


def test_pillows_warnings_are_not_printed() -> None:
    code = "import sys; from dualgeo_core.photos.decode import check_image; check_image(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", code], input=with_many_warnings(), capture_output=True, check=True)
    assert done.stderr == b""


# --- memory ---


def test_sixteen_bit_grey_is_converted_without_whole_copies() -> None:
    data = grey16(1500)
    decode_image(data)
    tracemalloc.start()
    try:
        decode_image(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 1500**2  # in bytes; 64-bit integers alone would take 8 per pixel


def test_threads_together_decode_no_more_pixels_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo(image=view(0, 40, 25))
    lock, under_way, most = threading.Lock(), 0, 0
    original = decode._rgb
    all_waiting = threading.Barrier(3)

    def counting(image: Image.Image, data: bytes) -> Image.Image:
        nonlocal under_way, most
        with lock:
            under_way += image.width * image.height
            most = max(most, under_way)
        all_waiting.wait(timeout=60)  # three decode at the same time, as the budget allows
        try:
            return original(image, data)
        finally:
            with lock:
                under_way -= image.width * image.height

    monkeypatch.setattr(decode, "BUDGET", decode.PixelBudget(3500))
    monkeypatch.setattr(decode, "_rgb", counting)
    with ThreadPoolExecutor(12) as pool:
        assert len([image.size for image in pool.map(decode_image, [data] * 12)]) == 12
    assert most == 3000
