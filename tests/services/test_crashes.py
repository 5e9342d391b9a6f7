"""SIGKILL during a retraining: no run hangs, no promotion is left incomplete, and the next run resumes."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import TINY_PROFILE, Home
from mlflow import MlflowClient
from safetensors import safe_open
from service_processes import BIN, Service, Webserver, free_port, wait_for

from dualgeo_dagster.commands.ui import write_workspace_file
from dualgeo_dagster.mlflow.registered_model import CHALLENGER, CHAMPION
from dualgeo_dagster.mlflow.registry import Registry
from dualgeo_dagster.runtime.instance import INSTANCE_SETTINGS

MODEL = "joint"
PROFILE = TINY_PROFILE.replace("    by_night: {photo_set: by_night}\n", "").replace("[encoder, ", "[")
RETRAINED = (
    *("models", "gallery_embeddings", "gallery_index", "candidates", "refiner", "clusters", "lmm_answers", "locator"),
    *("predictions", "scores", "report", "challenger", "champion"),
)


class Deployment:
    """A home whose champion is version 1, with the three services."""

    def __init__(self, folder: Path, home: Home) -> None:
        self.home, self.logs, self.epochs = home, folder, 60
        self.services: list[Service] = []
        self._write_profile(PROFILE)
        self.models = self.home.path / "artifacts" / "tiny" / "models"
        self.partial = self.models / f"{MODEL}.partial"
        dagster_home = folder / "dagster"
        dagster_home.mkdir()
        shutil.copyfile(INSTANCE_SETTINGS, dagster_home / "dagster.yaml")
        self.tracking_uri = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            **self.home.environment,
            "DAGSTER_HOME": str(dagster_home),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }

    def start(self) -> None:
        port, folder = self.tracking_uri.rpartition(":")[2], self.logs
        store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/mlflow"]
        self.mlflow = self._start("mlflow", "server", "--port", port, "--workers", "1", *store)
        self.wait_for_mlflow()
        self.home.python("-m", "dualgeo_core.cli", "run", "--profile", "tiny", **self.environment)
        workspace = str(write_workspace_file(["tiny"], folder / "workspace.yaml"))
        web_port = free_port()
        self.web = Webserver(f"http://127.0.0.1:{web_port}")
        webserver = self._start("dagster-webserver", "-p", str(web_port), "-w", workspace)
        self.daemon = self._start("dagster-daemon", "run", "-w", workspace)
        webserver.wait_until_up(self.web.info)

    def _start(self, program: str, *arguments: str) -> Service:
        log = self.logs / f"{program}.log"
        service = Service(str(BIN / program), *arguments, log=log, environment=self.environment, cwd=self.home.path)
        self.services.append(service)
        return service

    def wait_for_mlflow(self) -> None:
        self.mlflow.wait_until_up(f"{self.tracking_uri}/health")

    def stop(self) -> None:
        for service in reversed(self.services):
            service.stop()

    def begin_retraining(self) -> str:
        """Launches a run with new settings, and returns its id once it has written a checkpoint."""
        self.epochs += 1
        self._write_profile(PROFILE.replace("epochs: 2", f"epochs: {self.epochs}, patience: {self.epochs}"))
        run_id = self.retrain()
        wait_for(lambda: self.checkpoint_step() > 0, "a checkpoint")
        return run_id

    def _write_profile(self, profile: str) -> None:
        (self.home.path / "profiles" / "tiny.yaml").write_text(profile)

    def retrain(self) -> str:
        return self.web.launch(*RETRAINED)

    def checkpoint_step(self) -> int:
        """The step of the last checkpoint; 0 if there is none."""
        try:
            with safe_open(self.partial / "checkpoint.safetensors", framework="pt") as file:
                return int(json.loads(file.metadata()["position"])["step"])
        except FileNotFoundError:
            return 0

    def training(self) -> list[psutil.Process]:
        """The processes that train in this home."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            trains = "dualgeo_dagster.runtime.training_process" in (process.info["cmdline"] or [])
            if trains and process.environ().get("DUALGEO_HOME") == str(self.home.path):
                found.append(process)
        return found

    def next_run(self, run_id: str) -> str:
        """The run that was queued after `run_id`."""
        newest = wait_for(lambda: (runs := list(self.web.runs()))[0] != run_id and runs, "another run")
        assert newest[1] == run_id, "one more run, not several"
        return newest[0]

    def steps_of(self, run_id: str) -> list[int]:
        """The training steps that this Dagster run logged to MLflow."""
        client = MlflowClient(self.tracking_uri)
        runs = self.mlflow_runs()
        [parent] = [run.info.run_id for run in runs if run.data.tags.get("dagster.run_id") == run_id]
        part = {"mlflow.parentRunId": parent, "part": f"training {MODEL}"}
        [training] = [run.info.run_id for run in runs if part.items() <= run.data.tags.items()]
        return [point.step for point in client.get_metric_history(training, "loss")]

    def mlflow_runs(self) -> list:
        client = MlflowClient(self.tracking_uri)
        return client.search_runs([client.get_experiment_by_name("dualgeo-tiny").experiment_id])

    def leftovers(self) -> list[Path]:
        artifacts = self.home.path / "artifacts"
        return [path for path in artifacts.rglob(".*") if ".tmp" in path.name or ".old" in path.name]

    def assert_untouched(self, versions: list[str]) -> None:
        """No version more, champion and trail agree, and the champion's answers can be read."""
        registry = Registry(self.tracking_uri, profile="tiny")
        assert registry.versions() == versions
        self._assert_consistent(registry)

    def assert_goes_on(self, again: Callable[[], str], versions: list[str]) -> None:
        """The run that `again` starts resumes from the checkpoint, and registers exactly one version."""
        step = self.checkpoint_step()
        assert step > 0
        run_id = again()
        assert self.web.wait_until_finished(run_id) == "SUCCESS"
        assert min(self.steps_of(run_id)) == step + 1
        self.assert_whole(versions)

    def assert_whole(self, versions: list[str]) -> None:
        """One version more, the registry agrees with itself, and nothing unfinished lies about."""
        registry = Registry(self.tracking_uri, profile="tiny")
        assert registry.versions() == [str(len(versions) + 1), *versions]
        assert registry.version_of(CHALLENGER) == registry.versions()[0]
        self._assert_consistent(registry)
        assert not self.partial.exists()
        assert self.leftovers() == []
        assert {run.info.status for run in self.mlflow_runs()} <= {"FINISHED", "FAILED", "KILLED"}

    def _assert_consistent(self, registry: Registry) -> None:
        champion = registry.version_of(CHAMPION)
        assert registry.trail()[-1].version == champion
        assert not registry.predictions_of(champion, "by_day").empty


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, new_home: Callable[[Path], Home]) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("crashes")
    made = Deployment(folder, new_home(folder / "home"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def versions(deployment: Deployment) -> Iterator[list[str]]:
    """The versions before the test; what a failed test left must not stop the next one."""
    yield Registry(deployment.tracking_uri, profile="tiny").versions()
    shutil.rmtree(deployment.partial, ignore_errors=True)


def test_a_killed_worker_takes_training_along_and_its_run_is_begun_again(
    deployment: Deployment, versions: list[str]
) -> None:
    run_id = deployment.begin_retraining()
    [training] = deployment.training()
    training.parent().kill()
    assert deployment.web.wait_until_finished(run_id) == "FAILURE"
    wait_for(lambda: not training.is_running(), "the training of a dead run to stop")
    deployment.assert_untouched(versions)
    deployment.assert_goes_on(lambda: deployment.next_run(run_id), versions)


def test_a_run_killed_with_all_of_the_daemon_is_noticed_and_begun_again(
    deployment: Deployment, versions: list[str]
) -> None:
    run_id = deployment.begin_retraining()
    for process in psutil.Process(deployment.daemon.process.pid).children(recursive=True):
        process.kill()
    deployment.daemon.kill()
    assert deployment.web.runs()[run_id] == "STARTED", "nobody was left to say that it died"
    deployment.assert_untouched(versions)
    deployment.daemon.start()
    assert deployment.web.wait_until_finished(run_id) == "FAILURE"
    deployment.assert_goes_on(lambda: deployment.next_run(run_id), versions)


def test_training_outlives_a_killed_mlflow_server_and_its_curve_has_no_gap(
    deployment: Deployment, versions: list[str]
) -> None:
    run_id = deployment.begin_retraining()
    os.killpg(deployment.mlflow.process.pid, signal.SIGKILL)
    deployment.mlflow.process.wait()
    step = deployment.checkpoint_step()
    wait_for(lambda: deployment.checkpoint_step() > step or not deployment.partial.exists(), "training to go on")
    deployment.mlflow.start()
    deployment.wait_for_mlflow()
    deployment.assert_untouched(versions)
    assert deployment.web.wait_until_finished(run_id) == "SUCCESS"
    steps = deployment.steps_of(run_id)
    assert steps == list(range(1, len(steps) + 1))
    deployment.assert_whole(versions)


def test_a_cancelled_run_leaves_a_checkpoint_and_the_next_outlives_its_daemon(
    deployment: Deployment, versions: list[str]
) -> None:
    run_id = deployment.begin_retraining()
    deployment.web.terminate(run_id)
    assert deployment.web.wait_until_finished(run_id) == "CANCELED"
    assert deployment.training() == []
    assert deployment.leftovers() == []
    deployment.assert_untouched(versions)

    def retrain_with_a_dying_daemon() -> str:
        again = deployment.retrain()
        wait_for(deployment.training, "training to go on")
        deployment.daemon.kill()
        deployment.daemon.start()
        return again

    deployment.assert_goes_on(retrain_with_a_dying_daemon, versions)
