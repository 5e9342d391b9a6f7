"""The deployment in `deploy/`: its units' own commands against PostgreSQL and an MLflow server."""

import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, Home
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from service_processes import BIN, Service, Webserver, free_port, wait_for

from dualgeo_dagster.commands.ui import write_workspace_file
from dualgeo_dagster.settings import keep_libraries_quiet

DEPLOY = ROOT / "deploy"
INSTALLED = "/opt/dualgeo"
POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))
needs_postgres = pytest.mark.skipif(POSTGRES is None, reason="no PostgreSQL server: apt install postgresql")


def example_settings() -> dict[str, str]:
    """The variables in deploy/environment."""
    lines = (DEPLOY / "environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def unit_command(name: str) -> list[str]:
    """The unit's start command, with the paths of this checkout instead of the installed ones."""
    lines = (DEPLOY / f"dualgeo-{name}.service").read_text().splitlines()
    [command] = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    return shlex.split(command.replace(f"{INSTALLED}/.venv/bin", str(BIN)).replace(INSTALLED, str(ROOT)))


PASSWORD = secrets.token_hex()


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of a PostgreSQL server with databases `dagster` and `mlflow` of the user `dualgeo`."""
    assert POSTGRES is not None
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), None
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = "nobody"
            shutil.chown(folder, user)
        password = folder / "password"
        password.write_text(PASSWORD)
        initdb = [POSTGRES / "initdb", "-D", folder / "data", "-U", "dualgeo", "--auth=scram-sha-256", "--no-sync"]
        subprocess.run([*initdb, "--pwfile", password], user=user, cwd=folder, check=True, capture_output=True)
        port = free_port()
        server = Service(
            *(str(POSTGRES / "postgres"), "-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port), "-k", name),
            log=folder / "log",
            environment=os.environ,
            cwd=folder,
            user=user,
        )

        def psql(command: str) -> bool:
            program = [
                POSTGRES / "psql",
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-U",
                "dualgeo",
                "-c",
                command,
                "postgres",
            ]
            done = subprocess.run(program, env={**os.environ, "PGPASSWORD": PASSWORD}, capture_output=True)
            return done.returncode == 0

        try:
            wait_for(lambda: psql("SELECT 1"), "PostgreSQL")
            assert psql("CREATE DATABASE dagster")
            assert psql("CREATE DATABASE mlflow")
            yield f"postgresql+psycopg2://dualgeo:{PASSWORD}@127.0.0.1:{port}"
        finally:
            server.stop()


@dataclass
class Deployment:
    webserver: Webserver
    webserver_process: Service
    mlflow: str
    logs: Path


@pytest.fixture(scope="module")
def deployment(
    database: str, tmp_path_factory: pytest.TempPathFactory, new_home: Callable[[Path], Home]
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    home = new_home(folder / "home")
    (folder / "dagster").mkdir()
    shutil.copyfile(DEPLOY / "dagster.yaml", folder / "dagster" / "dagster.yaml")
    ports = {name: free_port() for name in ("webserver", "mlflow")}
    settings = {
        "DUALGEO_PROFILE": "tiny",
        "DUALGEO_HOME": str(home.path),
        "DAGSTER_HOME": str(folder / "dagster"),
        "DUALGEO_DAGSTER_DATABASE": f"{database}/dagster",
        "MLFLOW_BACKEND_STORE_URI": f"{database}/mlflow",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "mlflow"),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
        "DUALGEO_MLFLOW_UI": f"http://127.0.0.1:{ports['mlflow']}",
    }
    environment = {**os.environ, **example_settings(), **settings}
    workspace_file = write_workspace_file(["tiny"], folder / "workspace.yaml")

    def start(name: str) -> Service:
        command = unit_command(name)
        if name in ports:
            command[command.index("--port") + 1] = str(ports[name])
        if "--workspace" in command:  # the installed one names the profile demo
            command[command.index("--workspace") + 1] = str(workspace_file)
        return Service(*command, log=folder / f"{name}.log", environment=environment, cwd=ROOT)

    services: dict[str, Service] = {}
    webserver = Webserver(f"http://127.0.0.1:{ports['webserver']}")
    try:
        for name in ("mlflow", "webserver", "daemon"):
            services[name] = start(name)
        services["mlflow"].wait_until_up(f"{settings['MLFLOW_TRACKING_URI']}/health")
        services["webserver"].wait_until_up(webserver.info)
        yield Deployment(webserver, services["webserver"], settings["MLFLOW_TRACKING_URI"], folder)
    finally:
        for service in reversed(list(services.values())):
            service.stop()


@needs_postgres
def test_a_run_from_the_web_page_is_done_by_the_daemon_and_outlives_a_restart(deployment: Deployment) -> None:
    web = deployment.webserver
    run_id = web.launch("gallery_photos", "segmenter")
    assert web.wait_until_finished(run_id) == "SUCCESS", (deployment.logs / "daemon.log").read_text()[-3000:]

    client = MlflowClient(deployment.mlflow)
    experiment = client.get_experiment_by_name("dualgeo-tiny")
    runs = client.search_runs([experiment.experiment_id])
    [run] = [run for run in runs if MLFLOW_PARENT_RUN_ID not in run.data.tags]
    assert run.data.tags["dagster.run_id"] == run_id
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:"), "clients need no disk in common with the server"

    deployment.webserver_process.restart()
    deployment.webserver_process.wait_until_up(web.info)
    assert web.runs() == {run_id: "SUCCESS"}


@needs_postgres
def test_no_service_writes_the_password_down(deployment: Deployment) -> None:
    deployment.webserver.runs()
    for log in ("mlflow", "webserver", "daemon"):
        assert PASSWORD not in (deployment.logs / f"{log}.log").read_text()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert PASSWORD.encode() not in process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue


def test_the_environment_file_keeps_libraries_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    keep_libraries_quiet()
    assert dict(os.environ).items() <= example_settings().items()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze: apt install systemd")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    units = [tmp_path / path.name for path in DEPLOY.glob("*.service")]
    for unit in units:
        text = (DEPLOY / unit.name).read_text().replace(f"{INSTALLED}/.venv/bin", str(BIN))
        unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
