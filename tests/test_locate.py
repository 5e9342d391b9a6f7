"""`dualgeo locate` on folders and patterns, its outputs, and the Python API."""

import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Home
from PIL import Image
from typer.testing import CliRunner

from dualgeo_core import Answer, Locator
from dualgeo_core.answering.answers import Candidate, as_geojson, supported_decimals
from dualgeo_core.answering.opening import locator_opener
from dualgeo_core.base import stamps
from dualgeo_core.base.artifacts import read_record
from dualgeo_core.base.digests import FileDigest, digest_file
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import haversine_km
from dualgeo_core.cli import app
from dualgeo_core.commands.locate_output import as_text
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import Settings, load_settings


@pytest.fixture
def photos(graph_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three photos of a benchmark, one of them in a subfolder. Commands use the graph's home."""
    monkeypatch.setenv("DUALGEO_HOME", str(graph_home.path))
    monkeypatch.setenv("DUALGEO_PROFILE", "tiny")
    found = Workspace(load_settings("tiny", home=graph_home.path)).photos("by_day")
    (tmp_path / "trip" / "day 2").mkdir(parents=True)
    for name, photo_id in zip(("a.jpg", "b.jpg", "day 2/c.jpg"), found.frame["id"], strict=False):
        (tmp_path / "trip" / name).write_bytes(found.image(photo_id))
    return tmp_path / "trip"


def locate(*arguments: object, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(app, ["locate", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


def placed(radius_50_km: float | None, radius_90_km: float | None) -> Answer:
    """An answer in Paris."""
    return Answer(
        photo="photo.jpg",
        status="ok",
        reason=None,
        latitude=48.85837009,
        longitude=2.294481,
        place="Paris, France",
        radius_50_km=radius_50_km,
        radius_90_km=radius_90_km,
        confidence_25km=0.91,
        candidates=[Candidate("g1", 48.8, 2.3, 0.9)],
        locator="0123",
    )


def test_a_folder_a_pattern_and_a_file_are_located_once_each(photos: Path) -> None:
    stdout, _ = locate("--json", photos, photos / "*.jpg", photos / "a.jpg")

    names = [json.loads(line)["photo"] for line in stdout.splitlines()]
    assert names == [str(photos / name) for name in ("a.jpg", "b.jpg", "day 2/c.jpg")]


def test_a_bad_file_is_one_line_and_the_others_are_answered(photos: Path) -> None:
    (photos / "a0.jpg").write_bytes(b"no photo")
    stdout, stderr = locate("--json", photos, photos / "missing.jpg", photos / "*.png", code=2)

    assert [Path(json.loads(line)["photo"]).name for line in stdout.splitlines()] == ["a.jpg", "b.jpg", "c.jpg"]
    lines = [line for line in stderr.splitlines() if not line.startswith("Note:")]
    assert len(lines) == 3
    assert any("a0.jpg is not a readable photo (undecodable" in line for line in lines)
    assert any("there is no photo" in line and "missing.jpg" in line for line in lines)
    assert any("no photo matches" in line for line in lines)


def test_geojson_has_a_point_per_photo(photos: Path, tmp_path: Path) -> None:
    stdout, _ = locate("--json", "--geojson", tmp_path / "answers.geojson", photos)

    answers = [json.loads(line) for line in stdout.splitlines()]
    features = json.loads((tmp_path / "answers.geojson").read_text())["features"]
    assert [feature["geometry"]["coordinates"] for feature in features] == [
        [answer["longitude"], answer["latitude"]] for answer in answers
    ]
    assert [feature["properties"]["radius_90_km"] for feature in features] == [
        answer["radius_90_km"] for answer in answers
    ]


def test_the_python_api_takes_paths_bytes_and_images(photos: Path) -> None:
    locator = Locator.from_profile("tiny")
    path = photos / "a.jpg"
    turned = Image.open(path).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    turned.info["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)

    one = locator.locate(str(path))
    several = locator.locate([path, path.read_bytes(), Image.open(path), Image.open(buffer)])

    assert isinstance(one, Answer)
    assert {(answer.latitude, answer.longitude) for answer in (one, *several)} == {(one.latitude, one.longitude)}
    assert [answer.photo for answer in several[:2]] == [str(path), "photo 1"]
    with pytest.raises(InputError, match="photo 1 is not a readable photo"):
        locator.locate([path, b"no photo"])


def test_photos_unlike_the_gallery_get_a_position_only_if_asked_for(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The method gives every photo a position if `least_likeness` is 0 (tests/test_likeness.py)."""
    folder = load_settings("tiny").locator_in_service
    refused, given = (Locator(folder, even_unlike=asked)._answerer.profile.refinement for asked in (False, True))
    assert (refused.least_likeness > 0, given.least_likeness) == (True, 0)
    opened: list[bool] = []

    def noted(settings: Settings, **options: Any) -> Any:
        opened.append(options["even_unlike"])
        return locator_opener(settings, **options)

    monkeypatch.setattr("dualgeo_core.answering.opening.locator_opener", noted)
    for options in ((), ("--even-unlike",)):
        assert json.loads(locate("--json", *options, photos / "a.jpg")[0])["status"] == "ok"
    assert opened == [False, True]


def test_abstention_says_which_evidence_is_missing(photos: Path) -> None:
    stdout, _ = locate("--json", "--max-risk", "0.9", photos)
    assert all("latitude" in json.loads(line) for line in stdout.splitlines())

    import pandas as pd

    from dualgeo_core.answering.reasons import missing_evidence

    def reason(*points: tuple[float, float], status: str = "abstained", unanswered: bool = False) -> str:
        found = pd.DataFrame(points, columns=["latitude", "longitude"]).assign(similarity=0.5)
        return missing_evidence(status, found, cluster_radius_km=25, unanswered=unanswered, candidate="gallery photo")

    paris, rome = [(48.85, 2.35), (48.86, 2.34)], [(41.9, 12.5), (41.91, 12.49)]
    assert reason() == "no similar gallery photo"
    assert reason(*paris, status="unlike_gallery") == "the photo is unlike all photos that the model was calibrated on"
    both = reason(*paris, *rome)
    assert both.startswith("two clusters of equal weight (")
    assert "France" in both
    assert "Italy" in both
    assert reason((0.5, 0.5), (50, 50), (-40, 100)) == "the similar gallery photos are far from each other"
    assert reason(*paris, unanswered=True).endswith("; no answer from the multimodal model")


def test_a_large_radius_comes_before_coordinates_that_it_supports() -> None:
    large, small = as_text(placed(80.0, 193.4)), as_text(placed(0.29, 4.2))

    assert "within 193 km, 9 times out of 10: 48.9, 2.3  Paris, France" in large
    assert small.splitlines()[1] == "  48.858, 2.294  Paris, France"
    assert "90 % radius 4.2 km" in small


def test_machines_get_radii_in_whole_metres() -> None:
    content = placed(0.1234567, 4.5678901).as_json()
    assert (content["radius_50_km"], content["radius_90_km"]) == (0.123, 4.568)
    [feature] = as_geojson([placed(0.1234567, 4.5678901)])["features"]
    assert feature["properties"]["radius_50_km"] == 0.123


@pytest.mark.parametrize("radius_km", [0.02, 0.3, 2, 40, 900])
def test_rounding_moves_a_position_by_less_than_the_radius(radius_km: float) -> None:
    answer = placed(radius_km, 3 * radius_km)
    latitude, longitude = answer.rounded or (0, 0)
    moved = haversine_km(latitude, longitude, answer.latitude, answer.longitude)
    assert moved < 0.5 * radius_km
    assert supported_decimals(radius_km) <= 5
    [feature] = as_geojson([answer])["features"]
    assert feature["geometry"]["coordinates"] == [longitude, latitude]


def test_locating_does_not_import_what_it_does_not_need(photos: Path, graph_home: Home) -> None:
    code = (
        "import sys; from dualgeo_core import Locator; "
        f"Locator.from_profile('tiny').locate({str(photos / 'a.jpg')!r}); "
        "slow = ('transformers', 'litellm', 'sklearn', 'hdbscan', 'matplotlib', 'scipy.stats', 'mlflow', 'dagster'); "
        "print([m for m in slow if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=graph_home.environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_locator_is_read_whole_once_and_again_where_it_changed(
    graph_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dualgeo serve` reads each byte once, the next start none, and a changed byte is refused."""
    settings = load_settings("tiny", home=graph_home.path)
    folder = tmp_path / "locator"
    shutil.copytree(settings.locator_in_service, folder)
    later = time.time_ns() + int(2 * stamps.SETTLED_S * 1e9)  # as if the copy had been made a while ago
    monkeypatch.setattr(stamps.time, "time_ns", lambda: later)
    monkeypatch.setattr("dualgeo_core.commands.serve._run", lambda settings, opener, **options: opener())
    monkeypatch.setattr("dualgeo_core.commands.serve._require_free", lambda *address: None)
    monkeypatch.setenv("DUALGEO_HOME", str(graph_home.path))
    recorded, read = read_record(folder), list[Path]()
    assert recorded is not None

    def noted(path: Path) -> FileDigest:
        read.append(path)
        return digest_file(path)

    monkeypatch.setattr("dualgeo_core.base.digests.digest_file", noted)

    def serve() -> Any:
        read.clear()
        return CliRunner().invoke(app, ["serve", "--profile", "tiny", "--locator", str(folder)])

    assert serve().exit_code == 0
    assert sorted(read) == sorted(folder / name for name in recorded.files)
    assert serve().exit_code == 0
    assert read == []
    refiner = folder / "refiner.json"
    refiner.write_text(refiner.read_text().replace("0", "1", 1))
    assert "refiner.json is missing or has changed since it was packed" in str(serve().exception)


def test_only_sure_answers_become_sidecars_and_undo_removes_them(photos: Path) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.jpg")}
    _, said = locate("--write-sidecar", "--sidecar-confidence", "0", "--dry-run", photos)
    assert said.count("written (dry run)") == 3
    locate("--write-sidecar", "--sidecar-confidence", "1", photos)
    assert not list(photos.rglob("*.xmp"))

    locate("--write-sidecar", "--sidecar-confidence", "0", photos)
    assert len(list(photos.rglob("*.jpg.xmp"))) == 3
    locate("--undo", photos)

    assert not list(photos.rglob("*.xmp"))
    assert {path: path.read_bytes() for path in photos.rglob("*.jpg")} == before


def test_a_dry_run_needs_something_to_do(photos: Path) -> None:
    done = CliRunner().invoke(app, ["locate", "--dry-run", str(photos)])
    assert isinstance(done.exception, InputError)


def test_a_terminal_gets_a_progress_bar_and_a_pipe_none(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualgeo_core.commands.locate.PHOTOS_AT_ONCE", 1)
    told = locate("--json", photos)[1].splitlines()
    assert [line for line in told if not line.startswith("Note:")] == []
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    stdout, stderr = locate("--json", photos)
    assert "/3" in stderr
    assert len(stdout.splitlines()) == 3


@pytest.mark.parametrize("form", ["text", "json"])
def test_files_are_whole_if_the_reader_of_the_answers_leaves(
    photos: Path, tmp_path: Path, graph_home: Home, form: str
) -> None:
    """As with `dualgeo locate trip/ --map map.html | head -1`."""
    for number in range(20):  # more answers than the pipe holds
        shutil.copy(photos / "a.jpg", photos / f"a{number}.jpg")
    wanted = {"--map": tmp_path / "map.html", "--geojson": tmp_path / "answers.geojson"}
    files = [str(part) for pair in wanted.items() for part in pair]
    sidecars = ("--write-sidecar", "--sidecar-confidence", "0")

    line, stderr, code = leave_after_a_line(
        graph_home, str(photos), *files, *sidecars, *(["--json"] if form == "json" else [])
    )

    assert line.startswith(b'{"photo"' if form == "json" else str(photos).encode())
    assert (code, "Traceback" in stderr, "BrokenPipe" in stderr) == (141, False, False)
    assert len(json.loads(wanted["--geojson"].read_text())["features"]) == 23
    assert wanted["--map"].read_text().rstrip().endswith("</html>")
    assert len(list(photos.rglob("*.xmp"))) == 23


def test_without_files_to_write_a_closed_pipe_ends_the_command(photos: Path, graph_home: Home, tmp_path: Path) -> None:
    for number in range(40):
        shutil.copy(photos / "a.jpg", photos / f"a{number}.jpg")
    (photos / "z.jpg").write_bytes(b"no photo")  # the last one, which would be reported

    _, stderr, code = leave_after_a_line(graph_home, "--json", str(photos))

    assert code == 141
    assert [line for line in stderr.splitlines() if not line.startswith("Note:")] == []


def leave_after_a_line(home: Home, *arguments: str) -> tuple[bytes, str, int]:
    """Runs `dualgeo locate` and closes its stdout after one line; returns the line, its stderr and its exit code."""
    command = [sys.executable, "-m", "dualgeo_core.cli", "locate", *arguments]
    with subprocess.Popen(
        command, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, pipesize=4096
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        line = running.stdout.readline()
        running.stdout.close()
        stderr = running.stderr.read().decode()
    return line, stderr, running.returncode
