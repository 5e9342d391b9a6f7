"""The Ray job that trains on several nodes of a cluster: one launcher (torchrun) per node, with the same arguments.

    python -m dualgeo_dagster.runtime.training_job FOLDER '{"seed": 3}' [--unattended]

FOLDER is the working directory on every node. The job prints what the training processes print, among it the messages
to Dagster. Exit code 0: training ended, or has reported its error to Dagster; 2: a user error, which is the last line;
otherwise the exit code of the training process that failed first.
"""

import json
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import one_line
from dualgeo_core.pipeline.cluster import connected, enter, resources
from dualgeo_core.settings import Profile, load_settings
from dualgeo_dagster.runtime.several_processes import (
    KILLED,
    KILLED_CODE,
    OUTAGE,
    USER_ERROR,
    child_environment,
    launch_command,
)

MODULE = "dualgeo_dagster.runtime.training_process"
NODES_SECONDS = 600  # time for the cluster to have the nodes, for example to start them
Running = dict[Any, tuple[Any, str]]  # the next line to come: its launcher, and the node's address
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}  # a message reaches Dagster when it is sent


class Launcher:
    """Runs the training processes of one node of the cluster."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._printed: SimpleQueue[str | int] = SimpleQueue()

    def enter(self, folder: Path) -> tuple[str, int]:
        """This node's address with a free port. Raises InputError if the node does not have `folder`."""
        import ray

        enter(folder)
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def start(self, processes: int, together: Sequence[str], arguments: Sequence[str]) -> None:
        """Starts the processes, with this node's Python."""
        command = [*launch_command(processes, together=together), MODULE, *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "errors": "replace"}
        self._process = subprocess.Popen(command, env={**child_environment(), **UNBUFFERED}, **pipes)
        threading.Thread(target=self._read, args=[self._process], daemon=True).start()

    def next(self) -> str | int:
        """The next line that the processes print, and at last their exit code."""
        return self._printed.get()

    def _read(self, process: subprocess.Popen[str]) -> None:
        # Read apart: what one process prints about an error must not tear a message that another one sends.
        with ThreadPoolExecutor(2) as pool:
            pool.map(self._read_lines, (process.stdout, process.stderr))
        code = process.wait()
        self._printed.put(code if code >= 0 else 128 - code)

    def _read_lines(self, stream: IO[str]) -> None:
        for line in stream:
            self._printed.put(line.rstrip("\n"))

    def stop(self) -> None:
        """Lets the processes finish their step and write a checkpoint."""
        if self._process is not None:
            self._process.terminate()


def main() -> None:
    """Trains on the profile's nodes, from the node on which Ray starts the job."""
    folder, *arguments = sys.argv[1:]
    try:
        enter(Path(folder))
        profile = load_settings().with_training(json.loads(arguments[0])).profile
        with connected():
            code = _train(profile, arguments)
    except InputError as error:
        print(error, flush=True)
        sys.exit(USER_ERROR)
    sys.exit(0 if code in (USER_ERROR, OUTAGE) else code)


def _train(profile: Profile, arguments: Sequence[str]) -> int:
    """The exit code of the first process that failed, otherwise 0. Raises InputError if a node dies or memory runs out.

    If a node fails or the job is stopped, the other nodes stop at a checkpoint.
    """
    launchers = _launchers(profile)
    places = _asked([launcher.enter.remote(Path.cwd()) for launcher in launchers])
    processes = profile.training.processes // len(launchers)
    meetings = _meetings(len(launchers), *places[0])
    _asked(
        launcher.start.remote(processes, together, arguments)
        for launcher, together in zip(launchers, meetings, strict=True)
    )
    running: Running = {
        launcher.next.remote(): (launcher, host) for launcher, (host, _) in zip(launchers, places, strict=True)
    }
    codes: list[int] = []
    dead: list[InputError] = []
    try:
        while running and not any(codes) and not dead:
            _listen(running, codes, dead)
    finally:
        for launcher in launchers:
            launcher.stop.remote()
        while running:
            _listen(running, codes, dead)
    if dead:
        raise dead[0]
    if KILLED_CODE in codes:  # the others fail then, too, because they lose the connection to it
        raise InputError(KILLED)
    return next((code for code in codes if code), 0)


def _launchers(profile: Profile) -> list[Any]:
    """A launcher on each of the nodes that train. Raises InputError if the cluster does not have so many in time."""
    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    assert profile.training_nodes is not None, "otherwise there is no job"
    cpus, gpus = resources(profile.ray, threads=profile.threads, device=profile.device)
    processes = profile.training.processes // profile.training_nodes
    share = {"CPU": processes * cpus, "GPU": processes * math.ceil(gpus)}  # a process needs a whole GPU
    wanted = f"{profile.training_nodes} nodes with {share['CPU']} CPUs and {share['GPU']} GPUs each"
    print(f"training waits for {wanted}", flush=True)
    group = placement_group([share] * profile.training_nodes, strategy="STRICT_SPREAD")
    if not group.wait(NODES_SECONDS):
        raise InputError(
            f"the Ray cluster did not have {wanted} within {NODES_SECONDS // 60} minutes: add nodes, or lower "
            "ray.training_nodes, training.processes or ray.cpus"
        )
    launcher = ray.remote(num_cpus=share["CPU"], num_gpus=share["GPU"])(Launcher)
    places = [PlacementGroupSchedulingStrategy(group, number) for number in range(profile.training_nodes)]
    # Two calls at once: one waits for the next line, another stops the processes.
    return [launcher.options(scheduling_strategy=place, max_concurrency=2).remote() for place in places]


def _asked(calls: Iterable[Any]) -> list[Any]:
    """The nodes' answers. Raises InputError if a node cannot train."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return list(ray.get(list(calls)))
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        known = isinstance(cause, InputError)
        raise InputError(str(cause) if known else f"a node of the cluster cannot train ({one_line(cause)})") from None


def _meetings(nodes: int, host: str, port: int) -> list[list[str]]:
    """The options with which each node's launcher finds the others: they meet at the first node."""
    if nodes == 1:
        return [[]]
    meeting = ["--nnodes", str(nodes), "--master-addr", host, "--master-port", str(port)]
    return [[*meeting, "--node-rank", str(number)] for number in range(nodes)]


def _listen(running: Running, codes: list[int], dead: list[InputError]) -> None:
    """Prints the next line of a node. If the node has ended, removes it, and notes its exit code or its death."""
    import ray
    from ray.exceptions import RayActorError

    (done,), _ = ray.wait(list(running), num_returns=1)
    launcher, host = running.pop(done)
    try:
        line = ray.get(done)
    except RayActorError:
        fault = f"node {host} died during training: see the cluster's dashboard for the cause. "
        dead.append(InputError(f"{fault}With unchanged settings, the next run resumes from the last checkpoint"))
        return
    if isinstance(line, int):
        codes.append(line)
        return
    print(line, flush=True)
    running[launcher.next.remote()] = launcher, host


if __name__ == "__main__":
    main()
