"""Signatures are computed from records: nothing else of a home is needed for them."""

import shutil
from pathlib import Path

import pytest
from conftest import Home

from dualgeo_core.pipeline import signatures
from dualgeo_core.pipeline.report import read_scores
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import load_settings

BENCHMARK = "by_day"


def everything_but_records(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_file() and not name.endswith((".json", ".yaml"))]


@pytest.fixture
def records(graph_home: Home, tmp_path: Path) -> Workspace:
    """The finished home without its photos, views, models, indexes and tables."""
    for folder in ("data", "artifacts", "profiles"):
        shutil.copytree(graph_home.path / folder, tmp_path / folder, ignore=everything_but_records)
    return Workspace(load_settings("tiny", home=tmp_path))


def test_signatures_open_records_alone(records: Workspace, graph_home: Home) -> None:
    whole = Workspace(load_settings("tiny", home=graph_home.path))
    for signature in (signatures.predictions_signature, signatures.scores_signature, signatures.clusters_signature):
        assert signature(records, BENCHMARK) == signature(whole, BENCHMARK)
    assert read_scores(records) == read_scores(whole)
