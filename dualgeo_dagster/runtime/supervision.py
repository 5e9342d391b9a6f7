"""Runs web servers until Ctrl-C or until the terminal closes. A server that ends is restarted; the others go on."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

import psutil

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.runtime.training_client import STOP_SECONDS

RESTARTS, WINDOW_S = 5, 600.0
LOOK_S = 0.5
SERVER_STOP_S = 20.0  # time limit for a server to end after a signal


@dataclass
class Server:
    """A server's command, started in a process group of its own, and the address at which it answers.

    `page` gives the address to open in a browser, once the server answers.
    """

    name: str
    command: Sequence[str]
    address: str
    page: Callable[[], str]
    _process: "subprocess.Popen[bytes] | None" = None
    _restarts: "deque[float]" = field(default_factory=deque)

    def start(self) -> None:
        self._process = subprocess.Popen(self.command, start_new_session=True)

    @property
    def exit_code(self) -> int | None:
        """The exit code of the server; None while it runs."""
        assert self._process is not None, "started before"
        return self._process.poll()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.address, timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def restart(self) -> bool:
        """Starts an ended server again, unless it was restarted too often; returns whether it did."""
        self.stop(signal.SIGTERM)  # processes that an ended server leaves behind keep its port
        now = time.monotonic()
        while self._restarts and now - self._restarts[0] > WINDOW_S:
            self._restarts.popleft()
        if len(self._restarts) == RESTARTS:
            return False
        self._restarts.append(now)
        self.start()
        return True

    def stop(self, number: signal.Signals) -> None:
        """Sends a signal to all processes of the server, waits for them, and kills those that do not end.

        Training gets the time to write a checkpoint. A further Ctrl-C kills all of them at once.
        """
        assert self._process is not None, "started before"
        try:
            for process in self._processes():
                _send(process, number)
            self._wait_for_server()
            deadline = time.monotonic() + STOP_SECONDS
            while self._processes() and time.monotonic() < deadline:
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            pass
        for process in self._processes():
            _send(process, signal.SIGKILL)
        self._process.wait()

    def _wait_for_server(self) -> None:
        assert self._process is not None, "started before"
        try:
            self._process.wait(timeout=SERVER_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _processes(self) -> list[psutil.Process]:
        """The running processes of the server's group."""
        assert self._process is not None, "started before"
        return [process for process in psutil.process_iter() if _group(process) == self._process.pid]


def require_free_ports(ports: dict[str, int], host: str) -> None:
    """Raises InputError if two options name the same port, or if another process listens on one of the ports."""
    for option, port in ports.items():
        if list(ports.values()).count(port) > 1:
            raise InputError(f"{' and '.join(ports)} are both {port}: choose two ports")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            try:
                probe.bind((host, port))
            except OSError as error:
                raise InputError(
                    f"port {port} on {host} cannot be used ({error.strerror}): end the process that listens there, or "
                    f"choose another port with {option}"
                ) from None


def serve(servers: Sequence[Server]) -> int:
    """Runs the servers until Ctrl-C, SIGTERM or SIGHUP (a closed terminal).

    Returns the exit code: 1 if a server did not start or was given up.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _hang_up)
    started: list[Server] = []
    try:
        for server in servers:
            server.start()
            started.append(server)
        if not _all_answer(servers):
            return 1
        can_open = sys.stdin.isatty() and sys.stdout.isatty()
        print(f"Press {'Enter to open the pages in a browser, ' if can_open else ''}Ctrl-C to stop.", flush=True)
        return _keep_running(servers)
    except KeyboardInterrupt:
        return 0
    finally:
        for server in started:
            server.stop(signal.SIGINT)
            with suppress(OSError):  # the terminal may be closed
                print(f"{server.name} stopped (exit code {server.exit_code}).", flush=True)


def _hang_up(number: int, frame: FrameType | None) -> None:
    """Acts as Ctrl-C. Both kernel and shell may send the signal; the second one must not kill training."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise KeyboardInterrupt


def _all_answer(servers: Sequence[Server]) -> bool:
    """Waits until every server answers, and prints its address then. False if one ends before it answers."""
    waiting = list(servers)
    while waiting:
        for server in list(waiting):
            if server.exit_code is not None:
                print(f"{server.name} did not start (exit code {server.exit_code}): see its output above", flush=True)
                return False
            if server.answers():
                print(f"{server.name:8} {server.page()}", flush=True)
                waiting.remove(server)
        time.sleep(LOOK_S if waiting else 0)
    return True


def _keep_running(servers: Sequence[Server]) -> int:
    running = list(servers)
    while running:
        for server in list(running):
            code = server.exit_code
            if code is None:
                continue
            if server.restart():
                print(f"{server.name} ended (exit code {code}) and was started again.", flush=True)
            else:
                running.remove(server)
                print(
                    f"{server.name} ended (exit code {code}) after {RESTARTS} restarts within "
                    f"{WINDOW_S / 60:.0f} minutes and is not started again: see its output above",
                    flush=True,
                )
        _wait_or_open(running)
    return 1


def _wait_or_open(servers: Sequence[Server]) -> None:
    """Waits a moment. Opens the servers' pages in a browser if the user presses Enter meanwhile."""
    if not sys.stdin.isatty():
        time.sleep(LOOK_S)
        return
    if select.select([sys.stdin], [], [], LOOK_S)[0] and sys.stdin.readline():
        for server in servers:
            webbrowser.open(server.page())


def _group(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getpgid(process.pid)
    except (psutil.NoSuchProcess, ProcessLookupError, PermissionError):
        return None


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
