"""Artifacts are known by their records: nothing else of a home is read for them."""

import json
from pathlib import Path

import pytest
from conftest import Home

from dualgeo_core.photos import photo_set
from dualgeo_core.pipeline.artifacts import Artifacts
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import load_settings

BENCHMARK = "by_day"


def test_artifacts_open_records_alone(graph_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(load_settings("tiny", home=graph_home.path))
    opened: list[Path] = []
    read_text = Path.read_text

    def noted(path: Path, *args: object, **kwargs: object) -> str:
        opened.append(path)
        return read_text(path, *args, **kwargs)  # type: ignore[arg-type]

    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("data was opened")

    photo_set._opened.cache_clear()  # other tests have opened the same sets
    monkeypatch.setattr(Path, "read_text", noted)
    for opener in ("pyarrow.parquet.read_table", "safetensors.safe_open", "faiss.read_index"):
        monkeypatch.setattr(opener, refused)
    artifacts = Artifacts(workspace)
    for artifact in (artifacts.scores(BENCHMARK), artifacts.clusters(BENCHMARK), artifacts.locator()):
        assert artifact.is_current()
    assert {path.name for path in opened} == {"record.json", "set.json"}
    assert opened.count(workspace.folder("features", "gallery") / "record.json") == 1, "a record is read once per step"


def test_the_chain_from_scores_to_photos_is_of_contents(graph_home: Home) -> None:
    workspace = Workspace(load_settings("tiny", home=graph_home.path))
    artifacts = Artifacts(workspace)
    scores = artifacts.require(artifacts.scores(BENCHMARK))
    predictions = artifacts.require(artifacts.predictions(BENCHMARK))
    assert scores.inputs["predictions"] == predictions.content
    features = json.loads((workspace.folder("features", "gallery") / "record.json").read_text())
    assert features["inputs"]["photos"] == workspace.photos("gallery").fingerprint
