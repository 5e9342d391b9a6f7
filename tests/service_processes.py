"""DualGeo's services as real processes: started and killed as by an operator, queried as by a browser."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

HOPELESS_S = 1800  # every wait ends with its condition; this ends only one whose condition never comes
Found = TypeVar("Found")
BIN = Path(sys.executable).parent
BENCHMARK = {"dagster/asset_partition_range_start": "by_day", "dagster/asset_partition_range_end": "by_day"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(look: Callable[[], Found], what: str, seconds: float = HOPELESS_S) -> Found:
    """The first true result of `look`. Fails, naming what was awaited, if that takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False


class Service:
    """A server in its own process group, with its output in a file."""

    def __init__(self, *command: str, log: Path, environment: Mapping[str, str], cwd: Path, user: str | None = None):
        self.command, self.log, self.environment, self.cwd, self.user = command, log, environment, cwd, user
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=dict(self.environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                user=self.user,
                start_new_session=True,
            )

    def wait_until_up(self, url: str) -> None:
        """Waits until `url` answers. Fails at once if the process has ended."""

        def up() -> bool:
            assert self.process.poll() is None, f"{self.command} ended:\n{self.log.read_text()[-3000:]}"
            return answers(url)

        wait_for(up, url)

    def kill(self) -> None:
        """Kills the process with SIGKILL, but not its child processes."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stops the process with a signal, and kills the rest of its group."""
        self.process.terminate()
        try:
            self.process.wait(timeout=HOPELESS_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()


class Webserver:
    """Dagster's GraphQL about profile `tiny`, as its web page uses it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.info = f"{address}/server_info"  # answers once the code locations are loaded

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.address}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=HOPELESS_S) as response:
            answer = json.loads(response.read())
        assert "errors" not in answer, answer
        return dict(answer["data"])

    def launch(self, *assets: str) -> str:
        """Queues a run of these assets for the benchmark by_day."""
        answer = self.ask(
            """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
                 __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
            params={
                "selector": {
                    "repositoryLocationName": "tiny",
                    "repositoryName": "__repository__",
                    "jobName": "tiny_everything",
                    "assetSelection": [{"path": ["tiny", asset]} for asset in assets],
                },
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in BENCHMARK.items()]},
            },
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def runs(self) -> dict[str, str]:
        """The status of every run, newest first."""
        runs = self.ask("{ runsOrError { ... on Runs { results { runId status } } } }")["runsOrError"]["results"]
        return {run["runId"]: run["status"] for run in runs}

    def wait_until_finished(self, run_id: str) -> str:
        return wait_for(
            lambda: (status := self.runs()[run_id]) in ("SUCCESS", "FAILURE", "CANCELED") and status,
            f"run {run_id} to finish",
        )

    def terminate(self, run_id: str) -> None:
        answer = self.ask(
            """mutation ($run: String!) { terminateRun(runId: $run) {
                 __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }""",
            run=run_id,
        )["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer
