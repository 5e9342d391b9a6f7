"""Damaged, odd and hostile files, drawn from a seed, with what an ingest must say about each of them."""

import io
import os
import random
import stat
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
from made_images import gps_exif, sexagesimal
from PIL import Image

pillow_heif.register_heif_opener()

LATITUDE, LONGITUDE = 48.86, 2.35
PLACED, ANY = "placed", ""
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "HEIF": ".heic", "WEBP": ".webp"}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b'exif:GPSLatitude="48,51.6N" exif:GPSLongitude="2,21,0E"/></rdf:RDF></x:xmpmeta>'
)


def view(seed: int = 0, width: int = 320, height: int = 240) -> Image.Image:
    """A smooth, slightly noisy picture: it compresses like a photo."""
    noise = np.random.default_rng(seed)
    surface = np.cumsum(np.cumsum(noise.normal(size=(height, width, 3)), axis=0), axis=1)
    surface = (surface - surface.min()) / np.ptp(surface) * 230 + noise.normal(size=surface.shape) * 6 + 12
    return Image.fromarray(surface.clip(0, 255).astype(np.uint8))


def photo(form: str = "JPEG", *, image: Image.Image | None = None, exif: Image.Exif | None = None, **options) -> bytes:
    """A photo with a position in its EXIF."""
    if exif is None:
        exif = gps_exif(sexagesimal(LATITUDE), "N", sexagesimal(LONGITUDE), "E")
    buffer = io.BytesIO()
    (image or view()).save(buffer, form, exif=exif, **options)
    return buffer.getvalue()


def with_chunk(png: bytes, kind: bytes, content: bytes, before: bytes = b"IDAT") -> bytes:
    """The PNG with one more chunk."""
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    at = png.index(before) - 4
    return png[:at] + chunk + png[at:]


def with_broken_exif(form: str) -> bytes:
    """A photo with intact pixels whose EXIF has a wrong TIFF header."""
    if form == "PNG":
        return with_chunk(photo("PNG", exif=Image.Exif()), b"eXIf", b"garbage, not TIFF")
    data = photo(form)
    at = max(data.find(b"II*\0"), data.find(b"MM\0*"))
    return data[: at + 1] + b"?" + data[at + 2 :]


def closed(jpeg: bytes, share: float) -> bytes:
    """The first part of a JPEG, closed with an end marker."""
    return jpeg[: int(len(jpeg) * share)] + b"\xff\xd9"


def zeroed(data: bytes, start: int, length: int = 2048) -> bytes:
    return data[:start] + bytes(length) + data[start + length :]


def taller(jpeg: bytes) -> bytes:
    """A JPEG whose header promises more rows than it has."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">H", 4000) + jpeg[at + 2 :]


def latitude_of_another_type(form: int) -> bytes:
    """A JPEG whose latitude has another TIFF type than RATIONAL (5)."""
    data = photo()
    order = ">" if b"MM\0*" in data else "<"
    rational, other = (struct.pack(f"{order}HHL", 2, kind, 3) for kind in (5, form))
    assert data.count(rational) == 1
    return data.replace(rational, other)


def with_many_warnings(tags: int = 4000) -> bytes:
    """A JPEG whose EXIF makes Pillow warn once per tag."""
    entries = b"".join(struct.pack("<HHLL", 0x9000 + tag, 5, 1, 0xFFFFFFF0) for tag in range(tags))
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", tags) + entries + bytes(4)
    jpeg = photo(exif=Image.Exif())
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 400 million pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + b"IHDR" + header
    png = start + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + b"\0\0\0\0IEND" + struct.pack(">I", 0xAE426082)
    return with_chunk(png, b"IDAT", zlib.compress(bytes(1000)), before=b"IEND")


def grey16(side: int) -> bytes:
    """A PNG of 16-bit grey values."""
    values = np.arange(side * side, dtype=np.uint32).reshape(side, side) * 65535 // (side * side - 1)
    return photo("PNG", image=Image.fromarray(values.astype(np.uint16)))


def make_corpus(folder: Path, seed: int) -> dict[str, str]:
    """Writes the files below `folder`. Returns for each photo's shown id PLACED, or how its reason begins, or ANY."""
    draw = random.Random(seed)
    files: dict[str, tuple[bytes, str]] = {}
    tiled = photo("HEIF", tile_size=64)
    kinds = {"JPEG": photo(), "progressive": photo(progressive=True), "HEIF": photo("HEIF"), "tiled": tiled}
    kinds |= {"PNG": photo("PNG"), "WEBP": photo("WEBP"), "grey": photo(image=view().convert("L"))}
    kinds |= {"CMYK": photo(image=view().convert("CMYK")), "16 bit": grey16(64)}
    suffix_of = SUFFIXES | {"tiled": ".heic", "16 bit": ".png"}
    for kind, data in kinds.items():
        suffix = suffix_of.get(kind, ".jpg")
        files[f"whole/{kind}{suffix}"] = data, PLACED
        for number in range(3):
            cut = data[: draw.randrange(len(data) // 4, len(data) - 100)]
            files[f"cut/{kind} {number}{suffix}"] = cut, "undecodable ("
            flipped = bytearray(data)
            for _ in range(8):
                flipped[draw.randrange(len(flipped))] = draw.randrange(256)
            files[f"flipped/{kind} {number}{suffix}"] = bytes(flipped), ANY
            if suffix == ".jpg":
                files[f"closed/{kind} {number}.jpg"] = closed(data, draw.uniform(0.3, 0.95)), "undecodable ("
                start = draw.randrange(len(data) // 3, len(data) - 2500)
                files[f"zeroed/{kind} {number}.jpg"] = zeroed(data, start), "undecodable ("
    for form, suffix in SUFFIXES.items():
        files[f"exif/broken{suffix}"] = with_broken_exif(form), "unreadable EXIF ("
        files[f"xmp/placed{suffix}"] = photo(form, exif=Image.Exif(), xmp=XMP), PLACED
    files["xmp/placed.png"] = (
        with_chunk(photo("PNG", exif=Image.Exif()), b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP),
        PLACED,
    )
    plain_png = photo("PNG", exif=Image.Exif())
    files["exif/not hex.png"] = (
        with_chunk(plain_png, b"tEXt", b"Raw profile type exif\0\nexif\n 8\nnot hex"),
        "unreadable EXIF (",
    )
    text_bomb = b"Comment\0\0" + zlib.compress(bytes(100_000_000))
    files["exif/text bomb.png"] = with_chunk(plain_png, b"zTXt", text_bomb, before=b"IEND"), "undecodable ("
    files["exif/warnings.jpg"] = with_many_warnings(), "no coordinates"
    files["exif/no position.jpg"] = photo(exif=Image.Exif()), "no coordinates"
    for form in (1, 3, 4, 7, 9, 12):
        files[f"gps/type {form}.jpg"] = latitude_of_another_type(form), "malformed GPS ("
    files["header/taller.jpg"] = taller(photo()), "undecodable ("
    files["header/bomb.png"] = bomb(), "decompression bomb ("
    files["header/empty.jpg"] = b"", "undecodable ("
    files["header/text.heic"] = b"this is no photo", "undecodable ("
    files["names/=1+1.jpg"] = photo(), PLACED
    files["names/ä ö.jpg"] = photo(), PLACED
    files["names/carriage\rreturn.jpg"] = photo(), "unusable id ("
    files["names/line\nbreak.jpg"] = photo(), "unusable id ("
    files[os.fsdecode(b"names/latin-1 \xe9.jpg")] = photo(), "unusable id ("
    files["other/scan.tif"] = b"II*\0", ANY
    files["other/notes.txt"] = b"not a photo", ANY
    for name, (data, _) in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    expected = {_shown(name): outcome for name, (_, outcome) in files.items() if not name.startswith("other/")}
    return expected | _make_special_files(folder / "special")


def _make_special_files(folder: Path) -> dict[str, str]:
    folder.mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "folder.jpg").mkdir()
    with (folder / "sparse.jpg").open("wb") as file:
        file.truncate(2**40)
    expected = {"pipe.jpg": "unreadable file (not a regular file)", "dangling.jpg": "unreadable file (No such file"}
    expected |= {"sparse.jpg": "unreadable file (1099511627776 bytes"}
    if make_zero_device(folder / "zero.jpg"):
        expected["zero.jpg"] = "unreadable file (not a regular file)"
    return {f"special/{name}": reason for name, reason in expected.items()}


def make_zero_device(path: Path) -> bool:
    """Whether this user may make device nodes. If so, `path` becomes one that gives zeros without end."""
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        return False
    return True


def _shown(name: str) -> str:
    return name.replace("\r", "\\x0d").replace("\n", "\\x0a").replace("\udce9", "\\xe9")
