"""The code location of a profile for a run in a terminal, served by a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.workspace.context import WorkspaceRequestContext

STOP_S = 20.0  # time limit for the server to end after its last run
HEARTBEAT_TIMEOUT_S = 60  # without a heartbeat of the terminal, the server ends after its run


class CodeServer:
    """The process that loads the definitions of a profile and executes its runs.

    It has its own session, so that Ctrl-C in the terminal does not reach it. A run is cancelled through Dagster.
    """

    def __init__(self, profile: str, *, name: str, instance: dg.DagsterInstance) -> None:
        from dagster._grpc.client import DagsterGrpcClient

        self.name, self._instance = name, instance
        self._folder = Path(tempfile.mkdtemp(prefix="dualgeo-"))
        socket = str(self._folder / "socket")
        self._command = [
            *(sys.executable, "-m", "dagster", "api", "grpc", "--socket", socket, "--log-level", "warning"),
            *("--module-name", "dualgeo_dagster.locations", "--attribute", profile, "--location-name", name),
            *("--heartbeat", "--heartbeat-timeout", str(HEARTBEAT_TIMEOUT_S)),
        ]
        self._log = self._folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._socket, self._client = socket, DagsterGrpcClient(socket=socket)
        self._closed = threading.Event()

    @contextmanager
    def workspace(self) -> "Iterator[WorkspaceRequestContext]":
        """The workspace with this one code location, once the server answers."""
        from dagster._core.workspace.context import WorkspaceProcessContext
        from dagster._core.workspace.load_target import GrpcServerTarget
        from dagster._grpc.client import client_heartbeat_thread
        from dagster._grpc.server import wait_for_grpc_server

        try:
            wait_for_grpc_server(self._process, self._client, self._command, timeout=0)
        except Exception:
            sys.stderr.write(self._log.read_text(errors="replace"))
            raise
        threading.Thread(target=client_heartbeat_thread, args=(self._client, self._closed), daemon=True).start()
        target = GrpcServerTarget(host="localhost", port=None, socket=self._socket, location_name=self.name)
        with WorkspaceProcessContext(self._instance, target) as process_context:
            yield process_context.create_request_context()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends the server, its run and the run's training at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends the server after its run."""
        self._closed.set()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
