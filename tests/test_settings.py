"""Profiles, with errors in one line; atomic files."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from dualgeo_core.base.artifacts import Artifact, new_artifact
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import (
    atomic_file,
    atomic_folder,
    fingerprint,
    read_json,
    replace_folder,
    write_json,
)
from dualgeo_core.settings import load_profile, load_settings


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_profiles_load(path: Path) -> None:
    assert load_profile(path).name == path.stem


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("photos: {gallery: {photo_set: a}, benchmarks: {}}\ntraning: {}", "traning: Extra inputs are not permitted"),
        (
            "photos: {gallery: {photo_set: a}, benchmarks: {}}\ntraining: {epochs: 0}",
            "training.epochs: Input should be",
        ),
        ("photos: {gallery: {}, benchmarks: {}}", "photos.gallery.photo_set: Field required"),
        ("photos: [", "is not valid YAML"),
        (
            "photos: {gallery: {photo_set: a}, benchmarks: {b: {photo_set: a, part: queries}}}",
            "photos.benchmarks.b shares photographers with the gallery",
        ),
        (
            "photos: {gallery: {photo_set: a}, benchmarks: {}}\nmodel: {variants: [encoder]}",
            "model.main is cross_attention, which is not in model.variants",
        ),
    ],
)
def test_faulty_profile_is_named_with_its_key(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_profile(path)
    assert str(path) in str(error.value)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_profile_tells_which_there_are() -> None:
    with pytest.raises(InputError, match=r"available profiles: .*demo"):
        load_settings("nosuch", home=ROOT)


@pytest.mark.parametrize("name", ["../../x", "", "my-photos"])
def test_a_name_that_cannot_be_a_namespace_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "home" / "profiles").mkdir(parents=True)
    photos = "photos: {gallery: {photo_set: a}, benchmarks: {}}\n"
    for path in (tmp_path / "x.yaml", tmp_path / "home" / "profiles" / "my-photos.yaml"):
        path.write_text(photos)
    with pytest.raises(InputError, match=f"'{name}' is not a profile's name"):
        load_settings(name, home=tmp_path / "home")
    monkeypatch.setenv("DUALGEO_PROFILE", name)
    with pytest.raises(InputError, match=f"'{name}' is not a profile's name"):
        load_settings(home=tmp_path / "home")
    given = tmp_path / "given.yaml"
    given.write_text(f"name: '{name}'\n{photos}")
    with pytest.raises(InputError, match=r"given.yaml: name: "):
        load_settings(str(given), home=tmp_path / "home")


def test_environment_chooses_profile_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text("photos: {gallery: {photo_set: a}, benchmarks: {}}")
    monkeypatch.setenv("DUALGEO_HOME", str(tmp_path))
    monkeypatch.setenv("DUALGEO_PROFILE", "mine")
    assert load_settings().artifacts == tmp_path / "artifacts" / "mine"


def test_atomic_file_keeps_the_old_content_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_json(path, {"a": 1})

    def write_and_fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["kept.json"]


def killed_while_writing(path: Path) -> None:
    """A process that is killed while it writes `path`."""
    code = (
        "import os, signal, sys; from pathlib import Path; from dualgeo_core.base.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)


def test_what_a_killed_writer_left_is_removed_by_the_next_write_and_a_living_one_is_let_be(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "a.json")
    [left] = tmp_path.iterdir()
    assert left.name != "a.json"
    living = tmp_path / f".a.json.{os.getppid()}.tmp.json"
    living.write_text("half")
    write_json(tmp_path / "a.json", {})
    assert set(tmp_path.iterdir()) == {tmp_path / "a.json", living}


def test_what_a_killed_writer_left_does_not_reach_the_finished_folder(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "partial" / "rows.parquet")
    (tmp_path / "partial" / "other.parquet").write_text("whole")
    replace_folder(tmp_path / "partial", tmp_path / "done")
    assert [path.name for path in (tmp_path / "done").glob("*.parquet")] == ["other.parquet"]


def test_atomic_folder_replaces_the_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_folder(folder) as temporary:
            (temporary / name).write_text(name)
    assert [file.name for file in folder.iterdir()] == ["new"]
    with pytest.raises(RuntimeError), atomic_folder(folder):
        raise RuntimeError
    assert [file.name for file in folder.iterdir()] == ["new"]


def test_fingerprint_depends_on_content_not_on_key_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_artifact_of_other_inputs_is_refused(tmp_path: Path) -> None:
    made = Artifact(tmp_path / "made", step="x", recipe="r", inputs={"photos": "abc"})
    with new_artifact(made) as folder:
        (folder / "file").write_text("content")
    assert made.require().files.keys() == {"file"}
    with pytest.raises(InputError, match=r"was made from other photos than there are now: run the step x again"):
        replace(made, inputs={"photos": "def"}).require()
    with pytest.raises(InputError, match=r"was made from other settings than there are now"):
        replace(made, recipe="s").require()
    (made.path / "file").write_text("altered")
    assert made.is_current(), "its size is what it was"
    with pytest.raises(InputError, match=r"file is damaged: delete it and run the step x again"):
        made.require_intact()
    (made.path / "file").unlink()
    with pytest.raises(InputError, match=r"is incomplete \(file is missing or was cut\)"):
        made.require()


def test_training_settings_of_one_run_are_checked_like_the_profile() -> None:
    settings = load_settings("demo", home=ROOT)
    assert settings.with_training({"seed": 3}).profile.training.seed == 3
    assert settings.with_training({}) == settings
    with pytest.raises(InputError, match=r"training settings of this run: epochs: .*greater than 0; speed: "):
        settings.with_training({"epochs": 0, "speed": 2})
