"""Refinement with a multimodal model in the graph: HTTP to a loopback server, and replay from a file."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import Home
from lmm_server import Fail, Say, lmm_server

from dualgeo_core.base.errors import InputError
from dualgeo_core.pipeline.stage2 import main_candidates, make_lmm_answers, make_predictions, predictions_by_method
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import LmmSettings, Settings, load_settings

SYDNEY = json.dumps(
    {"latitude": -33.86, "longitude": 151.21, "place": "Sydney", "granularity": "city", "evidence": "the opera house"}
)
BENCHMARK = "by_day"


@pytest.fixture
def home(graph_home: Home, tmp_path: Path) -> Path:
    """A copy of the finished home that the test may change."""
    for folder in ("data", "artifacts", "profiles"):
        shutil.copytree(graph_home.path / folder, tmp_path / "home" / folder)
    return tmp_path / "home"


def with_lmm(home: Path, **lmm: object) -> Workspace:
    profile = load_settings("tiny", home=home).profile
    return Workspace(Settings(profile=profile.model_copy(update={"lmm": LmmSettings(**lmm)}), home=home))


def test_answers_move_predictions_and_faults_do_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with lmm_server(lambda body, number: Fail(500) if number % 2 else Say(SYDNEY)) as server:
        asking = with_lmm(home, model="openai/tiny", api_base=server.url, retries=0, concurrency=1)
        facts = make_lmm_answers(asking, BENCHMARK)
        asked = len(server.requests)
        again = make_lmm_answers(asking, BENCHMARK)
    queries = len(asking.photos(BENCHMARK))
    assert facts["status answered"] == queries // 2
    assert asked == queries
    assert again["cached"] == queries // 2, "what was answered once is not asked again"
    make_predictions(asking, BENCHMARK)
    found = predictions_by_method(asking, BENCHMARK)
    answered = found["joint, posterior and answers"].set_index("id")
    alone = found["joint, posterior"].set_index("id").loc[answered.index]
    silent = answered["status"] == "no_answer"
    assert 0 < silent.sum() == queries - again["status answered"]
    same = ["latitude", "longitude"]
    pd.testing.assert_frame_equal(answered.loc[silent, same], alone.loc[silent, same])
    assert not answered.loc[~silent, same].equals(alone.loc[~silent, same])


def test_answers_are_replayed_from_a_file(home: Path, tmp_path: Path) -> None:
    ids = load_ids(home)
    table = tmp_path / "answers.csv"
    pd.DataFrame({"id": ids, "model": "replayed", "latitude": 10.0, "longitude": 20.0, "location": "somewhere"}).to_csv(
        table, index=False
    )
    replaying = with_lmm(home, answers_file=str(table))
    assert make_lmm_answers(replaying, BENCHMARK)["answers"] == len(ids)


def test_answers_to_other_settings_are_stale(home: Path, tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    pd.DataFrame({"id": load_ids(home)[:1], "model": "a", "latitude": 1.0, "longitude": 2.0, "location": "x"}).to_csv(
        table, index=False
    )
    with pytest.raises(InputError, match="run the step lmm_answers again"):
        make_predictions(with_lmm(home, answers_file=str(table)), BENCHMARK)


def load_ids(home: Path) -> list[str]:
    return main_candidates(Workspace(load_settings("tiny", home=home)), BENCHMARK)["id"].unique().tolist()
