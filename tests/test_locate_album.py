"""`dualgeo locate --album`: one album per camera, in the order of capture times, with the errors of its clock."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import Home
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from typer.testing import CliRunner

from dualgeo_core import Locator
from dualgeo_core.cli import app
from dualgeo_core.photos.cameras import albums_by_camera
from dualgeo_core.photos.decode import image_metadata
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import load_settings


def exif_of(
    *,
    camera: str | None = None,
    serial: str = "1",
    artist: str | None = None,
    taken: str | None = None,
    zone: str | None = None,
    position: tuple[float, float] | None = None,
    gps_time: tuple[str, tuple[float, float, float]] | None = None,
) -> Image.Exif:
    exif = Image.Exif()
    if camera is not None:
        exif[Base.Make], exif[Base.Model] = "Maker", camera
        exif.get_ifd(IFD.Exif)[Base.BodySerialNumber] = serial
    if artist is not None:
        exif[Base.Artist] = artist
    if taken is not None:
        exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = taken
    if zone is not None:
        exif.get_ifd(IFD.Exif)[Base.OffsetTimeOriginal] = zone
    if position is not None:
        gps = exif.get_ifd(IFD.GPSInfo)
        for (value, name, reference), signs in zip(
            ((position[0], GPS.GPSLatitude, GPS.GPSLatitudeRef), (position[1], GPS.GPSLongitude, GPS.GPSLongitudeRef)),
            ("NS", "EW"),
            strict=True,
        ):
            gps[name], gps[reference] = (abs(value), 0.0, 0.0), signs[value < 0]
        if gps_time is not None:
            gps[GPS.GPSDateStamp], gps[GPS.GPSTimeStamp] = gps_time
    return exif


def save(path: Path, exif: Image.Exif, image: Image.Image | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("RGB", (8, 8))).save(path, exif=exif)
    return path


def albums_of(*paths: Path) -> dict[str, list[str]]:
    albums = albums_by_camera([(path, image_metadata(path.read_bytes())) for path in paths])
    return {album.camera: [photo.path.name for photo in album.photos] for album in albums}


def test_cameras_are_never_mixed_and_photos_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    found = albums_of(
        save(tmp_path / "a.jpg", exif_of(camera="X", taken="2020:05:01 12:00:00")),
        save(tmp_path / "b.jpg", exif_of(camera="X", taken="2020:05:01 11:00:00", artist="Ann")),
        save(tmp_path / "c.jpg", exif_of(camera="X", serial="2", taken="2020:05:01 11:30:00")),
        save(tmp_path / "d.jpg", exif_of(camera="X")),
        save(tmp_path / "e.jpg", exif_of(artist="Ann")),
        save(tmp_path / "f.jpg", exif_of()),
        save(tmp_path / "other" / "g.jpg", exif_of()),
    )
    assert found == {
        "camera Maker X 1": ["b.jpg", "a.jpg", "d.jpg"],
        "camera Maker X 2": ["c.jpg"],
        "author Ann": ["e.jpg"],
        f"folder {tmp_path}": ["f.jpg"],
        f"folder {tmp_path / 'other'}": ["g.jpg"],
    }


@pytest.mark.parametrize(
    ("taken", "zone", "error"),
    [
        ("2020:05:01 14:00:10", None, None),  # summer time in Paris
        ("2020:05:01 12:00:00", "+00:00", None),
        ("2020:05:01 14:00:00", "+02:00", None),
        ("2020:05:01 14:07:00", None, timedelta(minutes=7)),
        ("2020:05:01 15:00:00", "+02:00", timedelta(hours=1)),
        ("2019:05:01 14:00:00", "+02:00", timedelta(days=-366)),
    ],
)
def test_a_clock_that_disagrees_with_gps_is_reported(
    tmp_path: Path, taken: str, zone: str | None, error: timedelta | None
) -> None:
    exif = exif_of(camera="X", taken=taken, zone=zone, position=(48.0, 2.0), gps_time=("2020:05:01", (12.0, 0.0, 0.0)))
    path = save(tmp_path / "a.jpg", exif)
    [album] = albums_by_camera([(path, image_metadata(path.read_bytes()))])
    assert album.clock_error == error


@pytest.fixture
def trip(graph_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six photos of one camera, the first with GPS and a wrong clock, and one of another camera."""
    monkeypatch.setenv("DUALGEO_HOME", str(graph_home.path))
    monkeypatch.setenv("DUALGEO_PROFILE", "tiny")
    photos = Workspace(load_settings("tiny", home=graph_home.path)).photos("by_day")
    for number, photo_id in enumerate(photos.frame["id"][:7]):
        (tmp_path / "raw.jpg").write_bytes(photos.image(photo_id))
        exif = exif_of(
            camera="X" if number < 6 else "Y",
            taken=f"2020:05:01 12:0{number}:00",
            zone="+00:00",
            position=(48.0, 2.0) if number == 0 else None,
            gps_time=("2020:05:01", (9.0, 0.0, 0.0)) if number == 0 else None,
        )
        with Image.open(tmp_path / "raw.jpg") as image:
            save(tmp_path / "trip" / f"{number}.png", exif, image)
    (tmp_path / "trip" / "bad.jpg").write_bytes(b"no photo")
    return tmp_path / "trip"


def test_an_album_is_one_map_with_a_path_and_its_own_radii(trip: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["locate", "--album", "--json", "--map", str(tmp_path / "map.html"), str(trip)])

    assert done.exit_code == 2, done.output
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(answer["photo"]).stem for answer in answers] == list("0123456")
    assert (answers[0]["status"], answers[0]["latitude"], answers[0]["radius_90_km"]) == ("anchor", 48.0, 0.0)
    assert "bad.jpg is not a readable photo" in done.stderr
    assert "camera Maker X 1: 6 photos, 6 with a time, 1 with GPS of their own" in done.stderr
    assert "its clock is 3 h 0 min ahead of its own GPS" in done.stderr
    text = (tmp_path / "map.html").read_text()
    records = json.loads(text.split('id="data">')[1].split("</script>")[0])["records"]
    assert [record["album"] for record in records] == ["camera Maker X 1"] * 6 + ["camera Maker Y 1"]
    assert records[0]["spread"]["points"][0][:2] == [48.0, 2.0], "the anchor's region is its place"

    alone = Locator.from_profile("tiny").locate([trip / f"{number}.png" for number in range(7)])
    singles = [answer.as_json() for answer in alone]
    assert answers[6]["radius_90_km"] == singles[6]["radius_90_km"], "a camera with one photo is a single photo"
    assert [answer["radius_90_km"] for answer in answers[1:6]] != [answer["radius_90_km"] for answer in singles[1:6]]


def test_the_region_of_an_album_photo_is_that_of_its_album(trip: Path) -> None:
    """The map draws the mixture that the album's answer was decided from: it has points that other photos lend."""
    locator = Locator.from_profile("tiny")
    from dualgeo_core.answering.photo_inputs import DecodedWhenTaken

    paths = [trip / f"{number}.png" for number in range(1, 6)]
    together = locator.locate_album(
        names=[path.name for path in paths],
        images=DecodedWhenTaken(paths),
        taken=[None] * 5,
        positions=[None] * 5,
        spread=True,
    )
    alone = locator.locate(paths, spread=True)
    assert all(
        found.spread is not None
        and single.spread is not None
        and not np.array_equal(found.spread.weights, single.spread.weights)
        for found, single in zip(together, alone, strict=True)
    )
