"""Published photo sets as they are downloaded: split tars, zips, their tables' columns, and exchanged coordinates."""

import csv
import io
import tarfile
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_images import encoded, picture
from PIL import Image
from typer.testing import CliRunner

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import haversine_km
from dualgeo_core.base.progress import silent
from dualgeo_core.cli import app
from dualgeo_core.photos.ingest import ingest_csv
from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.photos.published_sets import MP16, PUBLISHED
from dualgeo_core.photos.swapped_coordinates import refuse_swapped
from dualgeo_core.photos.tar_images import TarImages
from dualgeo_core.refine.density import shipped_places
from dualgeo_core.settings import PhotoSource

Rows = Sequence[Sequence[Any]]
MEMBERS = {f"./images/{number:02x}_{number}.jpg": bytes([number]) * (100 + 37 * number) for number in range(40)}


def write_table(path: Path, header: str, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def write_parts(folder: Path, pieces: Sequence[bytes]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"mp-16-images{number:02d}" for number in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    return paths


def split(data: bytes, *cuts: int) -> list[bytes]:
    ends = [0, *cuts, len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def opened(parts: Sequence[Path], kept_in: Path) -> TarImages:
    return TarImages(parts, kept_in=kept_in, progress=silent)


def photos_of(folder: Path) -> Photos:
    return open_photos(PhotoSource(photo_set=folder.name), folder.parent)


# --- the tar ---


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_parts_of_a_tar_are_read_as_one_wherever_it_was_split(tmp_path: Path, data: st.DataObject) -> None:
    whole = tar_of(MEMBERS)
    cuts = data.draw(st.lists(st.integers(1, len(whole) - 1), max_size=4, unique=True).map(sorted))
    images = opened(write_parts(tmp_path / "parts", split(whole, *cuts)), tmp_path / f"members{len(cuts)}")
    for name, content in MEMBERS.items():
        assert images.read(name) == images.read(Path(name).stem) == content


def test_several_whole_tars_are_read_one_after_the_other(tmp_path: Path) -> None:
    tars = [tar_of({f"a/{name}.jpg": name.encode() * 900}) for name in ("one", "two", "three")]
    images = opened(write_parts(tmp_path / "parts", tars), tmp_path / "members")
    assert [images.read(name) for name in ("one", "two", "three")] == [b"one" * 900, b"two" * 900, b"three" * 900]


@pytest.mark.parametrize("given_parts", [[0, 2, 1, 3], [0, 1, 3], [0, 1, 2], [1, 2, 3]])
def test_parts_in_another_order_or_too_few_are_refused(tmp_path: Path, given_parts: list[int]) -> None:
    whole = tar_of(MEMBERS)
    parts = write_parts(tmp_path / "parts", split(whole, 9_999, 20_001, 29_000))
    with pytest.raises(InputError, match=r"mp-16-images0\d is not .* part of one .* give all parts in their order"):
        opened([parts[number] for number in given_parts], tmp_path / "members")


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(InputError, match="not an uncompressed tar"):
        opened([tmp_path / "a.tar.gz"], tmp_path / "members")


def test_a_tar_is_scanned_once_and_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = write_parts(tmp_path / "parts", split(tar_of(MEMBERS), 20_000))
    changed = split(tar_of({**MEMBERS, "./images/05_5.jpg": b"changed"}), 20_000)
    scans: list[int] = []

    def counted(**options: Any) -> tarfile.TarFile:
        scans.append(options["fileobj"].tell())
        return original(**options)

    original = tarfile.open
    monkeypatch.setattr("dualgeo_core.photos.tar_images.tarfile.open", counted)
    for expected in ([0], [0]):
        assert opened(parts, tmp_path / "members").read("05_5") == MEMBERS["./images/05_5.jpg"]
        assert scans == expected
    for damaged in (b"", b"\0" * 50, (tmp_path / "members").read_bytes()[:-5]):
        (tmp_path / "members").write_bytes(damaged)
        assert opened(parts, tmp_path / "members").read("05_5") == MEMBERS["./images/05_5.jpg"]
    assert scans == [0] * 4
    write_parts(tmp_path / "parts", changed)
    assert opened(parts, tmp_path / "members").read("05_5") == b"changed"
    assert scans == [0] * 5


def test_a_scan_that_was_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = write_parts(tmp_path / "parts", [tar_of(MEMBERS)])
    monkeypatch.setattr("dualgeo_core.photos.tar_images.SAVED_EVERY", 10)
    reports: list[int] = []

    def deadly(what: str, done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TarImages(parts, kept_in=tmp_path / "members", progress=deadly)
    images = TarImages(parts, kept_in=tmp_path / "members", progress=lambda what, done, total: reports.append(done))
    assert 0 < len(reports) < 40
    assert all(images.read(name) == content for name, content in MEMBERS.items())


# --- MP-16 ---

MP16_HEADER = "IMG_ID,AUTHOR,LAT,LON,S3_Label,Prob_urban,neighbourhood,city,county,state,region,country,continent"


def mp16_row(photo_id: str, author: str, latitude: float, longitude: float, city: str = "Paris") -> list[Any]:
    return [
        photo_id,
        author,
        latitude,
        longitude,
        1,
        0.5,
        "here",
        city,
        "there",
        "Île-de-France",
        "",
        "France",
        "Europe",
    ]


def noisy(number: int, side: int = 120) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (side, side + 20, 3)).astype(np.uint8)
    return encoded(Image.fromarray(pixels))


def test_mp16_keeps_place_names_and_leaves_out_placeholders_missing_and_repeated_photos(tmp_path: Path) -> None:
    members = {f"./images/0a_1b_{number}.jpg": noisy(number) for number in (3, 2, 1)}
    members["./images/0a_1b_4.jpg"] = encoded(picture())
    members["./images/0a_1b_5.jpg"] = noisy(5)[:-3000]
    parts = write_parts(tmp_path / "parts", split(tar_of(members), 5000, 12_345))
    rows = [mp16_row(f"0a/1b/{number}.jpg", f"author{number}", number, 5) for number in (1, 2, 3, 4, 5, 6)]
    rows += [mp16_row("0a_1b_1.jpg", "again", 1, 5)]
    rows[1][7] = ""
    table = write_table(tmp_path / "MP16_Pro_filtered.csv", MP16_HEADER, rows)
    arguments = ["ingest", "mp16", str(table), *map(str, parts), "--out", str(tmp_path / "mp16")]
    result = CliRunner().invoke(app, [*arguments, "--max-quarantine-share", "0.8"])
    assert result.exit_code == 0, result.output
    told = "3 photos in 1 shards; 4 unusable (1 missing file, 1 placeholder, 1 repeated id, 1 undecodable)"
    assert told in result.output
    frame = photos_of(tmp_path / "mp16").frame
    assert frame["id"].tolist() == ["0a/1b/3.jpg", "0a/1b/2.jpg", "0a/1b/1.jpg"]  # in the order of the archive
    assert frame["author"].tolist() == ["author3", "author2", "author1"]
    assert frame["latitude"].tolist() == [3, 2, 1]
    assert frame["city"].fillna("none").tolist() == ["Paris", "none", "Paris"]
    assert set(frame.columns) == {"id", "latitude", "longitude", "author", "taken", *MP16.kept}
    assert photos_of(tmp_path / "mp16").image("0a/1b/2.jpg") == members["./images/0a_1b_2.jpg"]
    assert (tmp_path / "mp16.members").is_file()


def test_a_short_side_re_encodes_larger_photos_upright_and_keeps_the_others(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right
    files = {"large.jpg": encoded(picture(400, 200), exif=exif), "small.jpg": encoded(picture(90, 100))}
    images = tmp_path / "images"
    images.mkdir()
    for name, data in files.items():
        (images / name).write_bytes(data)
    table = write_table(tmp_path / "t.csv", "id,latitude,longitude", [["large", 1, 2], ["small", 3, 4]])
    ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=0, short_side=100)
    photos = photos_of(tmp_path / "set")
    assert photos.image("small") == files["small.jpg"]
    assert Image.open(io.BytesIO(photos.image("large"))).size == (100, 200)


# --- the benchmarks ---


def test_im2gps_is_read_from_its_zip_with_the_authors_of_its_file_names(tmp_path: Path) -> None:
    names = ["gps_query_imgs/Rome_00024_231521295_aa_19_78841376@N00.jpg", "gps_query_imgs/104123223_bb_19_35@N01.jpg"]
    with zipfile.ZipFile(tmp_path / "gps_query_imgs.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, encoded(picture(50 + number)))
        archive.writestr("__MACOSX/gps_query_imgs/._104123223_bb_19_35@N01.jpg", b"not a photo")
    rows = [
        ["231521295_aa_19_78841376@N00.jpg", "aa_19_78841376@N00", 41.9, 12.5],
        ["104123223_bb_19_35@N01.jpg", "35@N01", -16.7, 145.6],
        ["nowhere.jpg", "someone", 1, 1],
    ]
    table = write_table(tmp_path / "im2gps_places365.csv", "IMG_ID,AUTHOR,LAT,LON", rows)
    form = PUBLISHED["im2gps"].form
    archive_path = tmp_path / "gps_query_imgs.zip"
    ingest_csv(table=table, images=[archive_path], out=tmp_path / "set", max_quarantine_share=0.5, form=form)
    assert photos_of(tmp_path / "set").frame["author"].tolist() == ["78841376@N00", "35@N01"]
    assert photos_of(tmp_path / "set").image("104123223_bb_19_35@N01.jpg") == encoded(picture(51))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut"])
def test_a_broken_zip_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    table = write_table(tmp_path / "t.csv", "id,latitude,longitude", [["a", 1, 2]])
    with pytest.raises(InputError, match=r"a.zip is not a zip archive .*; download it again"):
        ingest_csv(table=table, images=[tmp_path / "a.zip"], out=tmp_path / "set", max_quarantine_share=0)


def test_damage_inside_a_zip_is_the_quarantine_of_its_photo(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", encoded(picture()))
        archive.writestr("b.jpg", encoded(picture(60)))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[200] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    table = write_table(tmp_path / "t.csv", "id,latitude,longitude", [["a", 1, 2], ["b", 1, 2]])
    ingest_csv(table=table, images=[tmp_path / "a.zip"], out=tmp_path / "set", max_quarantine_share=0.5)
    assert "unreadable file (Bad CRC-32" in (tmp_path / "set" / "quarantine.csv").read_text()


# --- exchanged coordinates ---


@pytest.fixture(scope="module")
def places() -> pd.DataFrame:
    return shipped_places()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(50, 400))
def test_exchanged_columns_are_detected_and_right_ones_are_not(places: pd.DataFrame, seed: int, count: int) -> None:
    rows = places.sample(count, random_state=seed)
    latitude, longitude = rows["latitude"].to_numpy(), rows["longitude"].to_numpy()
    refuse_swapped(Path("table.csv"), latitude, longitude, remedy="")
    with pytest.raises(InputError, match=r"seem to be exchanged, because \d+% .* exchanged; exchange them"):
        refuse_swapped(Path("table.csv"), longitude, latitude, remedy="exchange them")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_photos_of_one_region_are_not_taken_for_exchanged(places: pd.DataFrame, seed: int) -> None:
    centre = places.sample(1, random_state=seed).iloc[0]
    distance = haversine_km(places["latitude"], places["longitude"], centre["latitude"], centre["longitude"])
    near = places.iloc[np.argsort(distance)[:100]]
    refuse_swapped(Path("table.csv"), near["latitude"].to_numpy(), near["longitude"].to_numpy(), remedy="")


def test_the_published_table_of_im2gps3k_is_refused_until_its_columns_are_exchanged(
    tmp_path: Path, places: pd.DataFrame
) -> None:
    """A version of it lists LON before LAT, but its values in the other order."""
    images = tmp_path / "images"
    images.mkdir()
    rows = []
    for number, place in enumerate(places.sample(40, random_state=1).itertuples()):
        name = f"{number}_e60e_1125_7884{number}@N00.jpg"
        (images / name).write_bytes(encoded(picture(40 + number)))
        rows.append([name, "x", place.latitude, place.longitude])
    table = write_table(tmp_path / "im2gps3k_places365.csv", "IMG_ID,AUTHOR,LON,LAT", rows)
    arguments = ["ingest", "im2gps3k", str(table), str(images), "--out", str(tmp_path / "set")]
    refused = CliRunner().invoke(app, arguments)
    assert "add --swapped, or --not-swapped if the columns are right" in str(refused.exception)
    assert not (tmp_path / "set").exists()
    taken = CliRunner().invoke(app, [*arguments, "--swapped"])
    assert taken.exit_code == 0, taken.output
    assert photos_of(tmp_path / "set").frame["latitude"].tolist() == [row[2] for row in rows]
    as_written = CliRunner().invoke(app, [*arguments, "--not-swapped", "--max-quarantine-share", "1"])
    assert as_written.exit_code == 0, as_written.output

    right = write_table(tmp_path / "right.csv", "IMG_ID,AUTHOR,LAT,LON", rows)
    needless = CliRunner().invoke(app, [*arguments[:2], str(right), *arguments[3:], "--swapped"])
    assert "leave out --swapped" in str(needless.exception)
