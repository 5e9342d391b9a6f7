"""Ingest from folders, tables and tars: accepted photos, rejected photos with reasons, and interruptions."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hostile_files import make_zero_device
from made_images import encoded, gps_exif, picture, sexagesimal
from made_photos import make_photos
from PIL.ExifTags import Base
from typer.testing import CliRunner

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, unfinished
from dualgeo_core.cli import app, main
from dualgeo_core.photos.existing import open_existing
from dualgeo_core.photos.ingest import ingest_csv, ingest_folder
from dualgeo_core.photos.photo_set import open_photos
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter
from dualgeo_core.settings import PhotoSource

HEADER = ("id", "latitude", "longitude", "author")
Rows = list[tuple[Any, ...]]


def placed(latitude: float, longitude: float, artist: str | None = None, form: str = "JPEG") -> bytes:
    exif = gps_exif(
        sexagesimal(latitude), "S" if latitude < 0 else "N", sexagesimal(longitude), "W" if longitude < 0 else "E"
    )
    if artist:
        exif[Base.Artist] = artist.encode()
    return encoded(picture(), form, exif)


def write_table(path: Path, rows: Rows, header: tuple[str, ...] = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def photos_of(folder: Path) -> pd.DataFrame:
    return open_photos(PhotoSource(photo_set=folder.name), folder.parent).frame.set_index("id")


def quarantine_of(folder: Path) -> dict[str, str]:
    table = pd.read_csv(folder / "quarantine.csv")
    return dict(zip(table["id"], table["reason"], strict=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(encoded(picture(40 + number, 30)))
    return folder


def test_a_folder_becomes_a_set(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    (folder / "anna" / "trip").mkdir(parents=True)
    (folder / "anna" / "trip" / "a.jpg").write_bytes(placed(-33.8568, 151.2153))
    (folder / "anna" / "b.JPG").write_bytes(placed(64.1466, -21.9426, artist="Björk"))
    (folder / "c.heic").write_bytes(placed(35.6586, 139.7454, form="HEIF"))
    (folder / "notes.txt").write_text("not a photo")
    manifest = ingest_folder(folder=folder, out=tmp_path / "set", max_quarantine_share=0.0)
    frame = photos_of(tmp_path / "set")
    assert manifest["photos"] == 3
    assert list(frame.index) == ["anna/b.JPG", "anna/trip/a.jpg", "c.heic"]
    assert frame.loc["anna/trip/a.jpg", ["latitude", "longitude"]].tolist() == pytest.approx([-33.8568, 151.2153])
    assert frame.loc["anna/b.JPG", ["latitude", "longitude"]].tolist() == pytest.approx([64.1466, -21.9426])
    assert frame["author"].fillna("unknown").tolist() == ["Björk", "anna", "unknown"]
    stored = open_photos(PhotoSource(photo_set="set"), tmp_path).image("anna/trip/a.jpg")
    assert stored == (folder / "anna" / "trip" / "a.jpg").read_bytes()


def test_every_unusable_photo_of_a_folder_is_named_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "fine.jpg").write_bytes(placed(1, 2))
    (folder / "placeless.jpg").write_bytes(encoded(picture()))
    (folder / "half.jpg").write_bytes(placed(1, 2)[:-200])
    (folder / "text.jpg").write_text("hello")
    (folder / "null.jpg").write_bytes(placed(0, 0))
    (folder / "which_side.jpg").write_bytes(
        encoded(picture(), exif=gps_exif(sexagesimal(3), None, sexagesimal(3), "E"))
    )
    ingest_folder(folder=folder, out=tmp_path / "set", max_quarantine_share=1.0)
    reasons = quarantine_of(tmp_path / "set")
    assert list(photos_of(tmp_path / "set").index) == ["fine.jpg"]
    assert reasons.keys() == {"placeless.jpg", "half.jpg", "text.jpg", "null.jpg", "which_side.jpg"}
    assert reasons["placeless.jpg"] == "no coordinates"
    assert reasons["half.jpg"].startswith("undecodable (")
    assert reasons["text.jpg"].startswith("undecodable (")
    assert reasons["null.jpg"] == "coordinates 0,0"
    assert reasons["which_side.jpg"].startswith("no hemisphere")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("1", "nan", "5"), "no coordinates"),
        (("1", "", "5"), "no coordinates"),
        (("1", "north", "5"), "no coordinates"),
        (("1", "inf", "5"), "no coordinates"),
        (("1", "90.5", "5"), "coordinates out of range (90.5, 5)"),
        (("1", "5", "-181"), "coordinates out of range (5, -181)"),
        (("1", "0", "0.0"), "coordinates 0,0"),
        (("0", "5", "5"), "repeated id"),
        (("9", "5", "5"), "missing file"),
        (("../secret", "5", "5"), "missing file"),
        (("broken", "5", "5"), "undecodable"),
    ],
)
def test_every_unusable_line_of_a_table_is_named_with_its_reason(
    tmp_path: Path, images: Path, row: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "secret.jpg").write_bytes(encoded(picture()))
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing follows")
    table = write_table(tmp_path / "photos.csv", [("0", "4.5", "-5.5", "x"), (*row, "y")])
    manifest = ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=0.5)
    assert manifest["quarantined"] == 1
    [(photo_id, told)] = quarantine_of(tmp_path / "set").items()
    assert str(photo_id) == row[0]
    assert told.startswith(reason)
    assert list(photos_of(tmp_path / "set").index) == ["0"]


def test_a_line_without_an_id_is_quarantined_by_its_number(tmp_path: Path, images: Path) -> None:
    table = write_table(tmp_path / "photos.csv", [("0", "4", "5", ""), ("", "4", "5", "")])
    ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=0.5)
    assert quarantine_of(tmp_path / "set") == {"line 3": "no id"}
    assert photos_of(tmp_path / "set")["author"].isna().all()


def test_published_tables_and_a_tar_are_read_as_they_are(tmp_path: Path, images: Path) -> None:
    """IMG_ID, LAT, LON; MP-16's ids with slashes name members with underscores, below folders."""
    header = ("IMG_ID", "LAT", "LON", "country")
    table = write_table(
        tmp_path / "p.csv", [("0a/1b/7.jpg", 4, 5, ""), ("2.jpg", 6, 7, ""), ("3.jpg", 8, 9, "")], header
    )
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(images / "1.jpg", "mp16/00/0a_1b_7.jpg")
        tar.add(images / "2.jpg", "mp16/01/2.jpg")
        for twin in ("mp16/02/3.jpg", "mp16/03/3.jpg"):
            tar.add(images / "3.jpg", twin)
    ingest_csv(table=table, images=[tmp_path / "images.tar"], out=tmp_path / "set", max_quarantine_share=0.5)
    photos = open_photos(PhotoSource(photo_set="set"), tmp_path)
    assert list(photos.frame["latitude"]) == [4, 6]
    assert photos.image("0a/1b/7.jpg") == (images / "1.jpg").read_bytes()
    assert quarantine_of(tmp_path / "set") == {"3.jpg": "missing file"}  # the name is ambiguous


def test_too_large_a_quarantine_refuses_the_set(tmp_path: Path, images: Path) -> None:
    table = write_table(tmp_path / "photos.csv", [("0", 4, 5, ""), ("1", 0, 0, ""), ("8", 4, 5, ""), ("9", 4, 5, "")])
    with pytest.raises(InputError, match=r"3 of 4 photos.*1 coordinates 0,0, 2 missing file.*75.0% exceeds"):
        ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=0.74)
    assert not (tmp_path / "set").exists()
    assert len(quarantine_of(tmp_path / "set.partial" / "set")) == 3
    manifest = ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=0.75)
    assert (manifest["photos"], manifest["quarantined"]) == (1, 3)
    assert not (tmp_path / "set.partial").exists()


def test_a_set_without_a_usable_photo_is_refused(tmp_path: Path, images: Path) -> None:
    table = write_table(tmp_path / "photos.csv", [("0", 0, 0, "")])
    with pytest.raises(InputError, match="no usable photo"):
        ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("id,lat\n1,2\n"), "lacks the column longitude"),
        (lambda path: path.write_text(""), "not a UTF-8 CSV"),
        (lambda path: path.write_bytes(b"id,latitude,longitude\n\xff\xfe,1,2\n"), "not a UTF-8 CSV"),
        (lambda path: None, "there is no table"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.write_text("id,latitude,longitude\n1,2,\0\n"), "line 2: it has a NUL"),
        (lambda path: path.write_text('id,latitude,longitude\n1,2,"3\n'), "line 2: not a CSV record"),
        (
            lambda path: path.write_text(f"id,latitude,longitude\n{'1' * 140_000},2,3\n"),
            "line 2: not a CSV record|unusable id",
        ),
    ],
)
def test_a_table_that_cannot_be_read_says_what_is_wrong(
    tmp_path: Path, images: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "photos.csv")
    with pytest.raises(InputError, match=message):
        ingest_csv(table=tmp_path / "photos.csv", images=[images], out=tmp_path / "set", max_quarantine_share=0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,latitude,longitude\n0,85,48,85,2,35\n", "line 2: 6 fields, but the header has 3"),
        ("id,latitude,longitude\n0,4,5,\n1,6,7,\n", "line 2: 4 fields, but the header has 3"),
        ("id,latitude,longitude,author\n0,4,5,x\n1,6,7\n", "line 3: 3 fields, but the header has 4"),
        ('id,latitude,longitude,author\n0,4,5,"two\nlines"\n\n1,6,7\n', "line 5: 3 fields"),
        ("id,latitude,longitude\r0,4,5\r1,6\r", "line 3: 2 fields"),
    ],
)
def test_a_row_with_other_fields_than_the_header_is_refused_by_its_line(
    tmp_path: Path, images: Path, content: str, message: str
) -> None:
    (tmp_path / "photos.csv").write_bytes(content.encode())
    with pytest.raises(InputError, match=message):
        ingest_csv(table=tmp_path / "photos.csv", images=[images], out=tmp_path / "set", max_quarantine_share=1)


def test_blank_lines_a_byte_order_mark_and_a_comma_after_every_line_are_no_faults(tmp_path: Path, images: Path) -> None:
    (tmp_path / "photos.csv").write_text("\ufeffid,latitude,longitude,\r\n0,4,5,\r\n  \r\n\r\n,6,7,\r\n", newline="")
    ingest_csv(table=tmp_path / "photos.csv", images=[images], out=tmp_path / "set", max_quarantine_share=1)
    assert photos_of(tmp_path / "set")["latitude"].to_dict() == {"0": 4}
    assert quarantine_of(tmp_path / "set") == {"line 5": "no id"}


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (("id", "lat", "latitude", "longitude"), "lat and latitude"),
        (("id", "IMG_ID", "latitude", "longitude"), "id and IMG_ID"),
        (("id", "latitude", "longitude", "author", "Author"), "author and Author"),
        (("id", "latitude", "longitude", "longitude"), "longitude and longitude"),
    ],
)
def test_two_columns_of_one_meaning_are_refused_by_name(
    tmp_path: Path, images: Path, header: tuple[str, ...], columns: str
) -> None:
    table = write_table(tmp_path / "photos.csv", [("0", *range(1, len(header)))], header)
    with pytest.raises(InputError, match=f"the columns {columns}.* mean the same"):
        ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=1)


def test_ids_that_name_one_file_are_one_photo(tmp_path: Path, images: Path) -> None:
    (images / "1.png").write_bytes(encoded(picture(), "PNG"))
    rows: Rows = [("1", 1, 1, ""), ("1.jpg", 2, 2, ""), ("./1.jpg", 3, 3, ""), ("1.png", 4, 4, ""), ("9", 5, 5, "")]
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for file in images.iterdir():
            tar.add(file, f"all/of_them/{file.name}")
    rows.append(("of/them_/../1", 6, 6, ""))
    table = write_table(tmp_path / "photos.csv", rows)
    for source in (images, tmp_path / "images.tar"):
        ingest_csv(table=table, images=[source], out=tmp_path / "set", max_quarantine_share=1)
        assert photos_of(tmp_path / "set")["latitude"].to_dict() == {"1": 1, "1.png": 4}
        told = {"1.jpg": "repeated id", "./1.jpg": "repeated id", "9": "missing file", "of/them_/../1": "missing file"}
        assert quarantine_of(tmp_path / "set") == told
    more = write_table(tmp_path / "more.csv", [("./1", 7, 7, ""), ("2.jpg", 8, 8, "")])
    made = ingest_csv(table=more, images=[images], out=tmp_path / "set", max_quarantine_share=1, add=True)
    assert (made["added"], made["already_there"]) == (1, 1)


def test_ids_that_no_table_can_hold_are_refused_and_the_set_still_grows(tmp_path: Path, images: Path) -> None:
    rows: Rows = [("0", 4, 5, ""), ("a\rb", 4, 5, ""), ("c\nd", 4, 5, ""), ("e" * 100_000, 4, 5, "")]
    table = write_table(tmp_path / "photos.csv", rows)
    ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=1)
    before = contents(tmp_path / "set")
    assert quarantine_of(tmp_path / "set") == {
        "a\\x0db": "unusable id (control character)",
        "c\\x0ad": "unusable id (control character)",
        "e" * 200 + "…": "unusable id (100000 characters)",
    }
    ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=1, add=True)
    assert contents(tmp_path / "set") == before


def test_file_names_that_are_not_utf8_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "fine.jpg").write_bytes(placed(1, 2))
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(placed(1, 2))
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("a note")
    for add in (False, True):
        made = ingest_folder(folder=folder, out=tmp_path / "set", max_quarantine_share=1, add=add)
        assert quarantine_of(tmp_path / "set") == {"caf\\xe9.jpg": "unusable id (not UTF-8)"}
    assert made["not_read"] == "1 .txt (first: caf\\xe9.txt)"


def test_a_quarantine_that_cannot_be_read_is_named(tmp_path: Path, images: Path) -> None:
    table = write_table(tmp_path / "photos.csv", [("0", 4, 5, "x"), ("1", 0, 0, "")])
    ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=0.5)
    (tmp_path / "set" / "quarantine.csv").write_bytes(b"id,reason\na\rb,missing file\n")
    with pytest.raises(InputError, match=r"quarantine.csv, line 2: 1 fields, but the header has 2"):
        ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=1, add=True)


def test_ids_that_look_like_formulas_are_text_in_the_quarantine(tmp_path: Path, images: Path) -> None:
    ids = ["=1+1", "+1", "-1", "@1", "'=1", "'quoted'"]
    table = write_table(tmp_path / "photos.csv", [("0", 4, 5, ""), *((photo_id, 0, 0, "") for photo_id in ids)])
    ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=1)
    lines = (tmp_path / "set" / "quarantine.csv").read_text().splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == ["'=1+1", "'+1", "'-1", "'@1", "''=1", "'quoted'"]
    assert [photo_id for photo_id, _ in open_existing(tmp_path / "set").quarantine] == ids


def test_every_file_of_a_folder_is_ingested_or_named(tmp_path: Path) -> None:
    folder, out = tmp_path / "raw", tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.webp").write_bytes(placed(1, 2, form="WEBP"))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "broken.jpg").symlink_to("nowhere")
    (folder / "album").symlink_to("sub")
    for name in ("scan.TIF", "sub/scan.tif", "notes.txt", "README"):
        (folder / name).write_text("not read")
    result = CliRunner().invoke(
        app, ["ingest", "folder", str(folder), "--out", str(out), "--max-quarantine-share", "1"]
    )
    assert result.exit_code == 0, result.output
    told = "2 .tif (first: scan.TIF), 1 .txt (first: notes.txt), 1 links to folders (first: album)"
    assert all(part in result.output for part in (*told.split(", "), "1 without suffix (first: README)"))
    assert list(photos_of(out).index) == ["a.webp"]
    assert quarantine_of(out) == {
        "broken.jpg": "unreadable file (No such file or directory)",
        "pipe.jpg": "unreadable file (not a regular file)",
    }


def test_whatever_a_decoder_raises_is_the_quarantine_of_its_photo(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: object) -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr("PIL.Image.Image.getexif", broken)
    ingest_csv(
        table=write_table(tmp_path / "photos.csv", [("0", 4, 5, "")]),
        images=[images],
        out=tmp_path / "set",
        max_quarantine_share=0,
    )
    with pytest.raises(InputError, match="6 unreadable EXIF"):
        ingest_folder(folder=images, out=tmp_path / "other", max_quarantine_share=1)


@pytest.mark.parametrize("kind", ["pipe", "device", "file", "below a file"])
def test_an_out_that_cannot_become_a_folder_is_refused_before_the_work(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    if kind == "pipe":
        os.mkfifo(out)
    elif kind == "device":
        if not make_zero_device(out):
            pytest.skip("this user may not make device nodes")
    else:
        out.write_text("mine")
    before = out.lstat()
    out = out / "set" if kind == "below a file" else out
    monkeypatch.setattr("dualgeo_core.photos.ingest.list_folder", lambda folder: pytest.fail("work was done"))
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError, match=r"exists and is not a photo set|cannot be written .*Not a directory"):
        ingest_folder(folder=tmp_path / "raw", out=out, max_quarantine_share=0)
    assert (tmp_path / "out").lstat() == before


def test_a_folder_that_is_no_set_is_left_alone(tmp_path: Path, images: Path) -> None:
    table = write_table(tmp_path / "photos.csv", [("0", 4, 5, "")])
    with pytest.raises(InputError, match="exists and is not a photo set"):
        ingest_csv(table=table, images=[images], out=images, max_quarantine_share=0.0)
    assert (images / "0.jpg").exists()


def test_the_same_input_gives_the_same_bytes_and_replaces_the_old_set(tmp_path: Path, images: Path) -> None:
    out = tmp_path / "set"
    first = write_table(tmp_path / "first.csv", [("0", 4, 5, "x"), ("1", 6, 7, ""), ("2", 0, 0, "")])
    other = write_table(tmp_path / "other.csv", [("3", 4, 5, "x")])
    ingest_csv(table=first, images=[images], out=out, max_quarantine_share=0.5)
    before = contents(out)
    ingest_csv(table=other, images=[images], out=out, max_quarantine_share=0.5)
    assert list(photos_of(out).index) == ["3"]
    ingest_csv(table=first, images=[images], out=out, max_quarantine_share=0.5)
    assert contents(out) == before


def listed_photo(number: int) -> IngestedPhoto:
    """Photo 7 is the only unusable one."""
    if number == 7:
        return IngestedPhoto(str(number), fault="undecodable (test)")
    return IngestedPhoto(str(number), number / 10 + 1, number / 10, None, bytes([number % 256]) * 1000)


def write_numbers(
    out: Path, read: Callable[[int], IngestedPhoto], recipe: str = "r", count: int = 100
) -> dict[str, Any]:
    with ThreadPoolExecutor(2) as pool:
        writer = PhotoWriter(out=out, recipe=recipe, entries=range(count), read=read, pool=pool, shard_photos=16)
        return writer.write(max_quarantine_share=0.5)


def test_a_failed_ingest_goes_on_from_its_finished_shards(tmp_path: Path) -> None:
    write_numbers(tmp_path / "undisturbed", listed_photo)
    seen: list[int] = []

    def failing(number: int) -> IngestedPhoto:
        if number == 60:
            raise OSError("the disk went away")
        return listed_photo(number)

    def counting(number: int) -> IngestedPhoto:
        seen.append(number)
        return listed_photo(number)

    with pytest.raises(OSError, match="went away"):
        write_numbers(tmp_path / "set", failing)
    assert not (tmp_path / "set").exists()
    write_numbers(tmp_path / "set", counting)
    assert min(seen) == 49  # three shards of 16 photos and the quarantined one were finished
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")


def test_a_half_made_set_of_another_recipe_is_not_gone_on_with(tmp_path: Path) -> None:
    def failing(number: int) -> IngestedPhoto:
        if number == 60:
            raise OSError
        return IngestedPhoto(str(number), 1, 1, "someone else", b"other")

    with pytest.raises(OSError):  # noqa: PT011
        write_numbers(tmp_path / "set", failing, recipe="other")
    write_numbers(tmp_path / "set", listed_photo)
    write_numbers(tmp_path / "undisturbed", listed_photo)
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")


def test_full_shards_are_split_and_all_unusable_ones_left_out(tmp_path: Path) -> None:
    def read(number: int) -> IngestedPhoto:
        return listed_photo(number) if number < 20 else IngestedPhoto(str(number), fault="no coordinates")

    manifest = write_numbers(tmp_path / "set", read, count=36)
    assert list(manifest["shards"]) == ["photos-00000.parquet", "photos-00001.parquet"]
    rows = [pq.read_metadata(tmp_path / "set" / name).num_rows for name in manifest["shards"]]
    assert rows == [16, 3]


KILL_AT_THE_FOURTH_SHARD = """
import os, signal, sys
from pathlib import Path
from dualgeo_core.photos import writer
from dualgeo_core.photos.ingest import ingest_csv
writer.SHARD_BYTES = 3000
digest = writer.file_digest
def deadly(path):
    if path.name == "photos-00003.parquet":
        os.kill(os.getpid(), signal.SIGKILL)
    return digest(path)
writer.file_digest = deadly
ingest_csv(table=Path(sys.argv[1]), images=[Path(sys.argv[2])], out=Path(sys.argv[3]), max_quarantine_share=0.5)
"""


def test_after_a_kill_a_rerun_gives_the_bytes_of_an_undisturbed_run(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualgeo_core.photos.writer.SHARD_BYTES", 3000)
    monkeypatch.setattr("dualgeo_core.photos.writer.BATCH", 1)
    script = KILL_AT_THE_FOURTH_SHARD.replace("writer.SHARD_BYTES = 3000", "writer.SHARD_BYTES, writer.BATCH = 3000, 1")
    rows: Rows = [(f"{number}", 1 + number, 2 + number, "x") for number in range(6)]
    for copy in range(6, 24):
        (images / f"{copy}.jpg").write_bytes((images / f"{copy % 6}.jpg").read_bytes())
        rows.append((f"{copy}", 1, 2 + copy, "y"))
    rows.append(("nowhere", 1, 1, ""))
    table = write_table(tmp_path / "photos.csv", rows)
    ingest_csv(table=table, images=[images], out=tmp_path / "undisturbed", max_quarantine_share=0.5)

    killed = subprocess.run(
        [sys.executable, "-c", script, str(table), str(images), str(tmp_path / "set")], env=os.environ, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    assert len(list((tmp_path / "set.partial" / "notes").iterdir())) == 3
    ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=0.5)
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")
    assert len(json.loads((tmp_path / "set" / "set.json").read_text())["shards"]) > 4


# --- adding to a set ---


def test_adding_a_folder_keeps_the_old_shards_and_takes_in_the_new_photos(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "set"
    raw.mkdir()
    for name in ("b.jpg", "d.jpg"):
        (raw / name).write_bytes(placed(1, 2))
    (raw / "mended_later.jpg").write_bytes(encoded(picture()))
    (raw / "never.jpg").write_text("hello")
    ingest_folder(folder=raw, out=out, max_quarantine_share=0.5)
    shard = out / "photos-00000.parquet"
    shard.chmod(0o444)  # as DVC does for sets that share files with its cache
    before, inode = shard.read_bytes(), shard.stat().st_ino
    (raw / "a.jpg").write_bytes(placed(3, 4))
    (raw / "d.jpg").write_bytes(placed(50, 60))  # its id is already in the set
    (raw / "mended_later.jpg").write_bytes(placed(5, 6))
    (raw / "placeless.jpg").write_bytes(encoded(picture()))

    made = ingest_folder(folder=raw, out=out, max_quarantine_share=0.5, add=True)

    assert (made["added"], made["already_there"]) == (2, 2)
    assert (shard.read_bytes(), shard.stat().st_ino) == (before, inode)
    assert photos_of(out)["latitude"].round().to_dict() == {"b.jpg": 1, "d.jpg": 1, "a.jpg": 3, "mended_later.jpg": 5}
    assert {name: told.partition(" (")[0] for name, told in quarantine_of(out).items()} == {
        "never.jpg": "undecodable",
        "placeless.jpg": "no coordinates",
    }
    manifest = json.loads((out / "set.json").read_text())
    assert manifest["shards"] == {path.name: file_digest(path) for path in sorted(out.glob("*.parquet"))}
    assert (manifest["photos"], manifest["quarantined"]) == (4, 2)
    assert manifest["quarantine_reasons"] == {"no coordinates": 1, "undecodable": 1}
    assert not (tmp_path / "set.partial").exists()


def test_adding_to_a_set_without_its_first_shard_overwrites_none(tmp_path: Path) -> None:
    """A user may delete a shard and its line in set.json; the numbers of the others stay taken."""
    make_photos(tmp_path, numbers=range(20))  # shards of 7, 7 and 6
    folder = tmp_path / "set"
    manifest = json.loads((folder / "set.json").read_text())
    del manifest["shards"]["photos-00000.parquet"]
    (folder / "set.json").write_text(json.dumps({**manifest, "photos": 13}))
    (folder / "photos-00000.parquet").unlink()

    photos = make_photos(tmp_path, numbers=range(30, 32), add=True)

    assert photos.frame["id"].tolist() == [f"p{number:03d}" for number in (*range(7, 20), 30, 31)]
    assert [key.name for key in photos.shard_keys] == ["photos-00001", "photos-00002", "photos-00003"]


def test_adding_a_table_names_new_lines_and_takes_known_ids_as_they_are(tmp_path: Path, images: Path) -> None:
    out = tmp_path / "set"
    first = write_table(tmp_path / "first.csv", [("0", 4, 5, "x"), ("1", 0, 0, "")])
    more = write_table(
        tmp_path / "more.csv",
        [("0", 80, 80, "z"), ("0", 80, 80, "z"), ("2", 6, 7, "y"), ("", 1, 1, ""), ("1", 0, 0, "")],
    )
    ingest_csv(table=first, images=[images], out=out, max_quarantine_share=0.5)
    made = ingest_csv(table=more, images=[images], out=out, max_quarantine_share=0.5, add=True)
    assert (made["added"], made["already_there"]) == (1, 1)
    assert photos_of(out)["latitude"].to_dict() == {"0": 4, "2": 6}
    lines = (out / "quarantine.csv").read_text().splitlines()
    assert lines == ["id,reason", '1,"coordinates 0,0"', "line 5,no id"]


def test_adding_nothing_leaves_the_set_as_it_is_and_says_so(tmp_path: Path, images: Path) -> None:
    out = tmp_path / "set"
    table = write_table(tmp_path / "photos.csv", [("0", 4, 5, "x"), ("1", 0, 0, "")])
    ingest_csv(table=table, images=[images], out=out, max_quarantine_share=0.5)
    before, inode = contents(out), out.stat().st_ino
    result = CliRunner().invoke(app, ["ingest", "csv", str(table), str(images), "--out", str(out), "--add"])
    assert result.output.splitlines()[-1] == f"{out}: no new photos, 1 already present; the set is unchanged"
    unusable = write_table(tmp_path / "unusable.csv", [("8", 4, 5, "x")])
    with pytest.raises(InputError, match=r"no usable photo for .*1 missing file"):
        ingest_csv(table=unusable, images=[images], out=out, max_quarantine_share=1, add=True)
    half = write_table(tmp_path / "half.csv", [("8", 4, 5, "x"), ("3", 4, 5, "x")])
    with pytest.raises(InputError, match="2 of 4 photos"):
        ingest_csv(table=half, images=[images], out=out, max_quarantine_share=0.4, add=True)
    assert (contents(out), out.stat().st_ino) == (before, inode)


def test_adding_says_in_one_line_where_there_is_no_set(tmp_path: Path, images: Path) -> None:
    table = write_table(tmp_path / "photos.csv", [("0", 4, 5, "x")])
    with pytest.raises(InputError, match=r"no photo set .* to add to; ingest it first, without --add"):
        ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=0, add=True)
    assert not (tmp_path / "set.partial").exists()


def add_numbers(out: Path, read: Callable[[int], IngestedPhoto] = listed_photo) -> dict[str, Any]:
    existing = open_existing(out)
    with ThreadPoolExecutor(2) as pool:
        writer = PhotoWriter(
            out=out,
            existing=existing,
            recipe="more",
            entries=[number for number in range(100, 140) if str(number) not in existing.ids],
            read=read,
            pool=pool,
            shard_photos=16,
        )
        return writer.write(max_quarantine_share=0.5)


def test_wherever_adding_is_cut_short_the_set_is_old_or_new_and_a_rerun_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each renaming in turn: files become visible only by a renaming."""
    write_numbers(tmp_path / "old", listed_photo)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    add_numbers(tmp_path / "new")
    old, new = contents(tmp_path / "old"), contents(tmp_path / "new")
    assert old.keys() < new.keys()
    rename, renamings = Path.replace, iter([True])

    def deadly(path: Path, target: Path) -> Path:
        if not next(renamings, False):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", deadly)
    for survived in count():
        out = tmp_path / f"set-{survived}"
        shutil.copytree(tmp_path / "old", out)
        renamings = iter([True] * survived)
        try:
            add_numbers(out)
        except KeyboardInterrupt:
            swapping = unfinished(out, "old")
            assert contents(out if out.exists() else swapping) in (old, new)
        else:
            break
        renamings = repeat(True)
        add_numbers(out)
        assert contents(out) == new
        assert not out.with_name(f"{out.name}.partial").exists()
    assert survived > 10


def test_adding_goes_on_from_its_finished_shards(tmp_path: Path) -> None:
    seen: list[int] = []

    def failing(number: int) -> IngestedPhoto:
        if number == 120:
            raise OSError("the disk went away")
        return listed_photo(number)

    def counting(number: int) -> IngestedPhoto:
        seen.append(number)
        return listed_photo(number)

    write_numbers(tmp_path / "set", listed_photo)
    with pytest.raises(OSError, match="went away"):
        add_numbers(tmp_path / "set", failing)
    add_numbers(tmp_path / "set", counting)
    assert min(seen) == 116
    assert list(photos_of(tmp_path / "set").index) == [str(number) for number in range(140) if number != 7]


def test_the_command_line_ingests_and_tells_what_it_kept_out(tmp_path: Path, images: Path) -> None:
    table = write_table(tmp_path / "photos.csv", [("0", 4, 5, ""), ("1", 0, 0, "")])
    arguments = ["ingest", "csv", str(table), str(images), "--out", str(tmp_path / "set")]
    result = CliRunner().invoke(app, [*arguments, "--max-quarantine-share", "0.5"])
    assert result.exit_code == 0
    assert "1 photos in 1 shards; 1 unusable (1 coordinates 0,0), see" in result.output


def test_the_command_line_says_in_one_line_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["dualgeo", "ingest", "folder", str(tmp_path / "none"), "--out", str(tmp_path / "s")]
    )
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("dualgeo: ")
    assert "none is not a folder" in told
    assert "\n" not in told
