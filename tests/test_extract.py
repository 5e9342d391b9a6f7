"""`dualgeo extract`: a benchmark's photos become files from which an album is located, and nothing else of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import Home
from PIL import Image
from typer.testing import CliRunner

from dualgeo_core.base.errors import InputError
from dualgeo_core.cli import app
from dualgeo_core.photos.decode import check_image
from dualgeo_core.photos.exif import exif_artist, exif_position, exif_taken
from dualgeo_core.photos.extract import extract_photos
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import load_settings


@pytest.fixture
def workspace(graph_home: Home, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("DUALGEO_HOME", str(graph_home.path))
    monkeypatch.setenv("DUALGEO_PROFILE", "tiny")
    return Workspace(load_settings("tiny", home=graph_home.path))


def test_files_have_photographer_and_time_but_no_position_and_the_same_pixels(
    workspace: Workspace, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["extract", str(tmp_path / "photos")], catch_exceptions=False)
    assert "32 photos of " in done.stdout
    photos = workspace.photos("by_night")
    for row in photos.frame.itertuples():
        file = tmp_path / "photos" / row.author / f"{row.id}.jpg"
        metadata = check_image(file.read_bytes())
        assert exif_artist(metadata) == row.author
        assert exif_taken(metadata) == row.taken
        assert exif_position(metadata).fault == "no coordinates"
        before = Image.open(io.BytesIO(photos.image(row.id)))
        assert np.array_equal(np.asarray(before), np.asarray(Image.open(file)))


def test_an_album_is_located_from_what_was_extracted(workspace: Workspace, tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["extract", str(tmp_path / "photos")], catch_exceptions=False).stdout
    count, album = said.splitlines()[-1].split(" photos of one of them: ")
    done = CliRunner().invoke(app, ["locate", album, "--album", "--map", str(tmp_path / "map.html")])
    assert done.exit_code == 0, done.output
    assert f"author {Path(album).name}: {count} photos, {count} with a time, 0 with GPS of their own" in done.stderr
    assert (tmp_path / "map.html").is_file()


def test_names_stay_in_the_folder_and_do_not_overwrite_each_other(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = workspace.photos("by_day")
    shard = next(iter(photos.shards()))
    frame = photos.frame.assign(author="../../outside", id=["a/b", "a b", *photos.frame["id"][2:]])
    monkeypatch.setitem(vars(photos), "frame", frame)
    renamed = type(shard)(name=shard.name, ids=frame["id"].tolist(), images=shard.images)
    monkeypatch.setattr(type(photos), "shards", lambda self: iter([renamed]))
    counts = extract_photos([photos], tmp_path / "photos")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(counts.values()) == len(written) == len(frame)
    assert {path.parent for path in written} == {tmp_path / "photos" / "_.._outside"}
    assert {"a_b.jpg", "a_b-2.jpg"} <= {path.name for path in written}


def test_wrong_names_are_one_line(workspace: Workspace, tmp_path: Path) -> None:
    for arguments, said in (
        ([str(tmp_path / "new"), "--benchmark", "dusk"], "has no benchmark dusk; use one of: by_day, by_night"),
        ([str(tmp_path)], "exists; name a new folder"),
    ):
        done = CliRunner().invoke(app, ["extract", *arguments])
        assert isinstance(done.exception, InputError)
        assert said in str(done.exception)
