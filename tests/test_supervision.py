"""Web servers: a dead one is restarted, the other goes on; nothing is started on a port that is in use."""

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import TINY_PROFILE
from typer.testing import CliRunner

from dualgeo_core.base.errors import InputError
from dualgeo_core.cli import app
from dualgeo_dagster.runtime.supervision import require_free_ports

# Prints its process id, then serves a page.
PAGE = """
import http.server, os
print("{name} process", os.getpid(), flush=True)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(404); self.end_headers()
    def log_message(self, *words): pass
http.server.HTTPServer(("127.0.0.1", {port}), Page).serve_forever()
"""
SUPERVISOR = """
import sys
from dualgeo_dagster.runtime import supervision
supervision.LOOK_S, supervision.RESTARTS = 0.05, 2
codes, ports = sys.argv[1::2], sys.argv[2::2]
servers = []
for name, code, port in zip(("first", "second"), codes, ports):
    address = f"http://127.0.0.1:{port}"
    page = lambda address=address: address
    servers.append(supervision.Server(name, [sys.executable, "-c", code], address, page=page))
sys.exit(supervision.serve(servers))
"""

# Unbuffered processes write a line in pieces, which mix with those of other processes.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # the session's terminal is stdin


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def codes_and_ports(*codes: str) -> list[str]:
    """The arguments of SUPERVISOR: code and port of each server."""
    ports = [str(free_port()) for _ in codes]
    named = zip(codes, ("first", "second"), ports, strict=True)
    return [word for code, name, port in named for word in (code.replace("{name}", name).replace("{port}", port), port)]


class Supervised:
    """Two servers under supervision, and what is printed."""

    def __init__(self, *codes: str) -> None:
        command = [sys.executable, "-c", SUPERVISOR, *codes_and_ports(*codes)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process: subprocess.Popen[str] = subprocess.Popen(command, env=BUFFERED, text=True, **pipes)  # type: ignore[call-overload]
        self.printed: list[str] = []

    def read_until(self, start: str) -> str:
        """The next printed line that begins with `start`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line.rstrip())
            if line.startswith(start):
                return line.rstrip()
        raise AssertionError(f"ended without a line that begins with {start!r}: {self.printed}")

    def rest(self) -> list[str]:
        """All further lines until the supervisor ends."""
        return self.process.communicate(timeout=120)[0].splitlines()


@pytest.fixture
def supervised() -> Iterator[list[Supervised]]:
    running: list[Supervised] = []
    yield running
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGINT)
            one.process.communicate(timeout=120)


def test_a_dead_server_is_restarted_and_the_other_goes_on(supervised: list[Supervised]) -> None:
    servers = Supervised(PAGE, PAGE)
    supervised.append(servers)
    servers.read_until("Press Ctrl-C")
    pids = {line.split()[0]: int(line.split()[-1]) for line in servers.printed if "process" in line}
    first, second = pids["first"], pids["second"]
    assert {line.split()[0] for line in servers.printed if "http://" in line} == {"first", "second"}
    for restart in range(2):
        os.kill(first, signal.SIGKILL)
        started_again = int(servers.read_until("first process").split()[-1])
        assert started_again != first, f"restart {restart}"
        first = started_again
    os.kill(first, signal.SIGKILL)
    assert "is not started again" in servers.read_until("first ended (exit code -9) after 2 restarts")
    assert psutil.pid_exists(second)
    servers.process.send_signal(signal.SIGINT)
    assert "second stopped" in "\n".join(servers.rest())
    assert not psutil.pid_exists(second)


def test_a_server_that_does_not_start_ends_all_with_exit_code_1(supervised: list[Supervised]) -> None:
    servers = Supervised(PAGE, "raise SystemExit(3)")
    supervised.append(servers)
    servers.read_until("second did not start (exit code 3)")
    rest = servers.rest()
    assert servers.process.returncode == 1
    assert any(line.startswith("first stopped") for line in rest)


def test_a_closed_terminal_stops_every_server() -> None:
    terminal, inside = pty.openpty()
    command = [sys.executable, "-c", TERMINAL + SUPERVISOR, *codes_and_ports(PAGE, PAGE)]
    pipes = {"stdin": inside, "stdout": inside, "stderr": inside}
    supervisor = subprocess.Popen(command, env=BUFFERED, start_new_session=True, **pipes)  # type: ignore[call-overload]
    os.close(inside)
    servers = []
    with os.fdopen(terminal) as shown:
        for line in shown:
            servers += [int(line.split()[-1])] if "process" in line else []
            if line.startswith("Press "):
                break
    supervisor.wait(timeout=120)
    assert len(servers) == 2
    left = [server for server in servers if psutil.pid_exists(server)]
    for server in left:
        os.kill(server, signal.SIGKILL)
    assert not left


def test_an_address_is_printed_when_it_answers(supervised: list[Supervised]) -> None:
    servers = Supervised(PAGE, "import signal; signal.pause()")
    supervised.append(servers)
    servers.read_until("first    http://127.0.0.1:")
    servers.process.send_signal(signal.SIGINT)
    servers.rest()
    assert not any(line.startswith("second   http") for line in servers.printed)


def test_a_port_in_use_is_found_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "tiny.yaml").write_text(TINY_PROFILE)
    monkeypatch.setenv("DUALGEO_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"^port {port} on 127.0.0.1 .* --mlflow-port$"):
            CliRunner().invoke(
                app,
                ["ui", "--profile", "tiny", "--dagster-port", str(free_port()), "--mlflow-port", str(port)],
                catch_exceptions=False,
            )
    assert not (tmp_path / "dagster").exists()
    assert not (tmp_path / ".mlflow").exists()


def test_two_servers_on_one_port_are_refused() -> None:
    port = free_port()
    with pytest.raises(InputError, match="choose two ports"):
        require_free_ports({"--dagster-port": port, "--mlflow-port": port}, "127.0.0.1")
