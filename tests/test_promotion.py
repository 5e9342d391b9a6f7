"""Promotion: which versions become champion, the list of promotions, and serving a version."""

import base64
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY_PROFILE, Home
from typer.testing import CliRunner

from dualgeo_core.answering.locator import Locator
from dualgeo_core.base.errors import InputError
from dualgeo_core.cli import app
from dualgeo_core.photos.decode import decode_image
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import load_settings
from dualgeo_dagster.mlflow.promotion import decide_promotion
from dualgeo_dagster.mlflow.registered_model import CHALLENGER, CHAMPION
from dualgeo_dagster.mlflow.registry import Registry
from dualgeo_dagster.settings import PromotionSettings

BENCHMARK = "by_day"


@pytest.fixture(scope="module")
def workspace(graph_home: Home) -> Workspace:
    return Workspace(load_settings("tiny", home=graph_home.path))


class Shelf:
    """A separate registry, and versions with predictions of a chosen quality."""

    def __init__(self, folder: Path, workspace: Workspace, uri: str, profile: str = "tiny") -> None:
        import mlflow

        self.uri = uri
        self.registry = Registry(uri, profile=profile)
        self._workspace, self._numbers = workspace, itertools.count()
        self.client = mlflow.MlflowClient(self.uri)
        experiment = self.client.create_experiment(f"dualgeo-{profile}", artifact_location=(folder / "mlflow").as_uri())
        self._run_id = self.client.create_run(experiment).info.run_id

    def put(self, degrees_off: float, benchmark: str = BENCHMARK) -> str:
        """Registers a version that is `degrees_off` too far east with every query."""
        truth = self._workspace.photos(BENCHMARK).frame
        shifted = truth["longitude"].where(truth["longitude"] > 0, truth["longitude"] + degrees_off)
        shifted = shifted.where(truth["longitude"] <= 0, truth["longitude"] - degrees_off)
        predictions = pd.DataFrame({"id": truth["id"], "latitude": truth["latitude"], "longitude": shifted})
        return self.registry.register(
            run_id=self._run_id,
            locator=self._workspace.locator,
            predictions={benchmark: predictions},
            tags={"locator": f"number {next(self._numbers)}"},
            description="made by a test",
        )


@pytest.fixture
def shelf(tmp_path: Path, workspace: Workspace, empty_mlflow: Callable[[Path], str]) -> Shelf:
    return Shelf(tmp_path, workspace, empty_mlflow(tmp_path))


def test_better_and_equal_are_promoted_and_worse_is_not(shelf: Shelf, workspace: Workspace) -> None:
    decisions = []
    for degrees_off in (20, 0, 20, 0):  # the first, a better one, a worse one, an equal one
        shelf.put(degrees_off)
        decisions.append(decide_promotion(shelf.registry, workspace, PromotionSettings()))
    assert [decision.promoted for decision in decisions] == [True, True, False, True]
    assert [decision.champion for decision in decisions] == ["1", "2", "2", "4"]
    assert decisions[2].facts["difference"] == -100
    assert decisions[2].facts["interval_high"] < 0
    assert "shown worse" in decisions[2].facts["decision"]
    assert decisions[3].facts["difference"] == 0
    assert shelf.registry.version_of(CHAMPION) == "4"
    assert shelf.registry.version_of(CHALLENGER) == "4"
    trail = [(entry.version, entry.replaced) for entry in shelf.registry.trail()]
    assert trail == [("1", None), ("2", "1"), ("4", "2")]


def test_a_champion_that_was_not_evaluated_here_stays_and_the_run_goes_on(shelf: Shelf, workspace: Workspace) -> None:
    shelf.registry.promote(shelf.put(0, benchmark="elsewhere"), reason="test")
    shelf.put(0)
    decision = decide_promotion(shelf.registry, workspace, PromotionSettings())
    assert not decision.promoted
    assert decision.facts["decision"].startswith("blocked: version 1 of dualgeo-tiny has no predictions on by_day")
    assert shelf.registry.version_of(CHAMPION) == "1"


def test_rollback_goes_back_through_the_trail_and_adds_to_it(shelf: Shelf) -> None:
    for version in (shelf.put(20), shelf.put(10), shelf.put(0)):
        shelf.registry.promote(version, reason="test")
    for reason, restored in (("bad", "2"), ("worse", "1")):
        assert shelf.registry.rollback(reason=reason).version == restored
        shelf.registry.finish_promotion()
    with pytest.raises(InputError, match="nothing to roll back to"):
        shelf.registry.rollback(reason="more")
    assert [entry.reason for entry in shelf.registry.trail()[-2:]] == ["rollback: bad", "rollback: worse"]


def test_the_champion_cannot_be_promoted_again(shelf: Shelf) -> None:
    shelf.put(20)
    shelf.put(0)
    shelf.registry.promote("1", reason="test")
    shelf.registry.promote("2", reason="test")
    with pytest.raises(InputError, match="version 2 of dualgeo-tiny is already the champion"):
        shelf.registry.promote("2", reason="once more")
    assert shelf.registry.rollback(reason="bad").version == "1"


def test_version_that_is_not_there_is_refused(shelf: Shelf) -> None:
    shelf.put(0)
    with pytest.raises(InputError, match="no version 7"):
        shelf.registry.promote("7", reason="test")
    with pytest.raises(InputError, match="has no predictions on by_night"):
        shelf.registry.predictions_of("1", "by_night")
    assert shelf.registry.trail() == []


def test_an_outage_is_no_verdict(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    unreachable = Registry("http://127.0.0.1:9", profile="tiny")
    with pytest.raises(MlflowException, match="Connection refused"):
        unreachable.predictions_of("1", BENCHMARK)
    with pytest.raises(MlflowException, match="Connection refused"):
        unreachable.promote("1", reason="test")


def test_a_server_that_does_not_answer_is_named_without_its_password(graph_home: Home) -> None:
    address = "http://user:secret@127.0.0.1:9"
    environment = {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    for command in (["versions"], ["run", "--profile", "tiny"]):
        told = graph_home.python("-m", "dualgeo_core.cli", *command, code=2, **environment).stderr
        assert told.splitlines()[-1].startswith("dualgeo: MLflow at http://127.0.0.1:9 does not answer")
        assert "secret" not in told


def test_a_registration_that_was_cut_short_is_finished_not_repeated(shelf: Shelf) -> None:
    version = shelf.put(0)
    shelf.client.delete_model_version_tag(shelf.registry.model, version, "locator")
    shelf.client.delete_registered_model_alias(shelf.registry.model, CHALLENGER)
    assert shelf.put(0) == version
    assert shelf.registry.version_of(CHALLENGER) == version
    assert shelf.put(0) != version, "a finished one is let be"


def test_commands_list_promote_and_roll_back_the_named_profile(
    shelf: Shelf, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dualgeo(*arguments: str) -> str:
        return CliRunner().invoke(app, [*arguments], catch_exceptions=False).stdout

    (tmp_path / "profiles").mkdir()
    for profile in ("tiny", "other"):
        (tmp_path / "profiles" / f"{profile}.yaml").write_text(TINY_PROFILE)
    monkeypatch.setenv("DUALGEO_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shelf.uri)
    other = Shelf(tmp_path, workspace, shelf.uri, profile="other")
    for versions in (shelf, other):
        versions.put(20)
        versions.put(0)

    dualgeo("promote", "1", "--profile", "tiny")
    dualgeo("promote", "2", "--profile", "tiny", "--reason", "looks fine")
    dualgeo("promote", "2", "--profile", "other")
    dualgeo("rollback", "--profile", "tiny")

    assert [versions.registry.version_of(CHAMPION) for versions in (shelf, other)] == ["1", "2"]
    listed = dualgeo("versions", "--profile", "tiny")
    assert "dualgeo-tiny version 1  champion" in listed
    assert "looks fine" in listed
    assert "looks fine" not in dualgeo("versions", "--profile", "other")
    with pytest.raises(InputError, match="nothing to roll back to"):
        dualgeo("rollback", "--profile", "other")
    with pytest.raises(InputError, match="dualgeo-other has no version 9"):
        dualgeo("promote", "9", "--profile", "other")


@pytest.fixture
def scoring_server(shelf: Shelf) -> Iterator[str]:
    shelf.registry.promote(shelf.put(0), reason="test")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{shelf.registry.model}@{CHAMPION}"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": shelf.uri}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        try:
            assert server.stdout is not None
            lines = []
            for line in server.stdout:
                lines.append(line)
                if "Uvicorn running" in line:
                    break
            assert server.poll() is None, "".join(lines)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(server.pid, 15)


def test_champion_serves_what_locate_answers(scoring_server: str, workspace: Workspace) -> None:
    photo = workspace.photos(BENCHMARK).image(workspace.photos(BENCHMARK).frame["id"][0])
    rows = [base64.encodebytes(photo).decode(), "bm90IGEgcGhvdG8=", "é", None, 5, [1]]
    body = {"dataframe_records": [{"photo": row} for row in rows]}
    request = urllib.request.Request(
        scoring_server, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        served, *unreadable = json.loads(response.read())["predictions"]
    [located] = Locator(workspace.locator).locate_images(names=["photo"], images=[decode_image(photo)])
    expected = located.as_json()
    assert served["model_version"] == "1"
    assert [answer["status"].split(":")[0] for answer in unreadable] == ["unreadable"] * 5
    for key in ("latitude", "longitude", "radius_90_km", "place", "candidates", "locator"):
        assert served[key] == expected[key], key


def test_a_packed_file_that_changed_is_refused(tmp_path: Path, workspace: Workspace) -> None:
    copy = tmp_path / "locator"
    shutil.copytree(workspace.locator, copy)
    refiner = copy / "refiner.json"
    refiner.write_text(refiner.read_text().replace("0", "1", 1))
    with pytest.raises(InputError, match=r"refiner.json is missing or has changed since it was packed"):
        Locator(copy)
