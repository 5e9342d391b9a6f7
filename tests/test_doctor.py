"""`dualgeo doctor` names what is missing and the command that mends it."""

import shutil
from pathlib import Path

import pytest
from conftest import Home

from dualgeo_dagster.commands.doctor import findings


def test_a_home_after_a_run_is_current(graph_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALGEO_HOME", str(graph_home.path))
    found = dict(findings("tiny"))
    assert found["Profile tiny"] == "every artifact is current"
    assert found["Profiles"] == "tiny has its photos and answers"
    assert "torch" in found["Packages"]
    assert found["Device"] == "cpu"
    assert found["MLflow"].endswith("mlflow.db can be read")


def test_stale_artifacts_and_servers_come_with_a_command(
    graph_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(graph_home.path, home, ignore=shutil.ignore_patterns(".mlflow", ".dagster", ".dvc"))
    shutil.rmtree(home / "artifacts" / "tiny" / "refiner")
    monkeypatch.setenv("DUALGEO_HOME", str(home))
    monkeypatch.setenv("DUALGEO_DAGSTER_UI", "http://127.0.0.1:9")
    found = dict(findings("tiny"))
    assert found["Profile tiny"].startswith("missing or stale: refiner, locator, predictions of by_day")
    assert found["Profile tiny"].endswith("Run `dualgeo run --profile tiny`")
    assert "does not exist yet" in found["MLflow"]
    assert found["Dagster's page"] == "http://127.0.0.1:9 does not answer: run `make ui`"


def test_models_of_other_training_settings_are_named(
    graph_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph's models have 2 epochs. A profile with 3 is what a home has whose setting was changed back."""
    home = tmp_path / "home"
    shutil.copytree(graph_home.path, home, ignore=shutil.ignore_patterns(".mlflow", ".dagster", ".dvc"))
    profile = home / "profiles" / "tiny.yaml"
    profile.write_text(profile.read_text().replace("epochs: 2", "epochs: 3"))
    monkeypatch.setenv("DUALGEO_HOME", str(home))

    state = dict(findings("tiny"))["Profile tiny"]

    assert "model joint (training.epochs is 2 in the checkpoint, 3 in the settings)" in state
    assert state.endswith("`dualgeo run --profile tiny` trains again")
