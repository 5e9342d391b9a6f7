"""`dualgeo ui`: MLflow's server dies and is restarted, while Dagster goes on."""

import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import TINY_PROFILE, Home

OURS = ("Photos ", "Dagster ", "MLflow ", "Press ")  # how the lines begin that `dualgeo ui` prints itself


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Pages:
    """`dualgeo ui` of an empty home, and its output."""

    def __init__(self, home: Path) -> None:
        (home / "profiles").mkdir(parents=True)
        (home / "profiles" / "tiny.yaml").write_text(TINY_PROFILE)
        self.ports = {"Dagster": free_port(), "MLflow": free_port()}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "dualgeo_core.cli", "ui", "--profile", "tiny"),
                *("--dagster-port", str(self.ports["Dagster"]), "--mlflow-port", str(self.ports["MLflow"])),
            ],
            env={**Home(home).environment, "DAGSTER_HOME": str(home / ".dagster")},
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed: list[str] = []

    def read_until(self, start: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line)
            if line.startswith(start):
                return
        raise AssertionError(f"ended without a line that begins with {start!r}: {''.join(self.printed)}")

    def server(self, name: str) -> psutil.Process:
        """The process that `dualgeo ui` started as this server."""
        module = {"Dagster": "dagster", "MLflow": "dualgeo_dagster.mlflow.server"}[name]
        [found] = [child for child in psutil.Process(self.process.pid).children() if module in child.cmdline()]
        return found

    def answers(self, name: str) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}", timeout=60) as response:
            return response.status == 200


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    shown = Pages(tmp_path / "home")
    yield shown
    if shown.process.poll() is None:
        shown.process.send_signal(signal.SIGINT)
        shown.process.communicate(timeout=300)


def test_mlflow_dies_and_is_restarted_while_dagster_goes_on(pages: Pages) -> None:
    pages.read_until("Press Ctrl-C")
    printed = "".join(pages.printed)
    for name, port in pages.ports.items():
        assert f"{name:8} http://127.0.0.1:{port}\n" in printed
        assert pages.answers(name)
    dagster, mlflow = pages.server("Dagster"), pages.server("MLflow")
    mlflow.kill()
    pages.read_until("MLflow ended (exit code -9) and was started again")
    while True:  # ends when it answers; a server that does not start is reported
        try:
            assert pages.answers("MLflow")
            break
        except OSError:
            assert pages.process.poll() is None
    assert pages.server("Dagster") == dagster
    assert pages.answers("Dagster")

    servers = psutil.Process(pages.process.pid).children(recursive=True)
    pages.process.send_signal(signal.SIGINT)
    last = pages.process.communicate(timeout=300)[0].splitlines()
    assert "Traceback (most recent call last):" not in last
    assert last[-2:] == ["Dagster stopped (exit code 0).", "MLflow stopped (exit code 0)."]
    assert [line for line in "".join(pages.printed).splitlines() if not line.startswith(OURS)] == []
    assert pages.process.returncode == 0
    assert [server for server in servers if server.is_running() and server.status() != psutil.STATUS_ZOMBIE] == []


def test_a_database_that_cannot_be_opened_is_named_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "home" / ".mlflow" / "mlflow.db").mkdir(parents=True)  # no database can be opened here
    pages = Pages(tmp_path / "home")
    said = pages.process.communicate(timeout=300)[0]
    assert pages.process.returncode == 2, said
    assert len(said.splitlines()) == 1
    assert "mlflow.db cannot be opened" in said
