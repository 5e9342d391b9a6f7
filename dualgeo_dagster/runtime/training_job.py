"""The Ray job that trains on several nodes of a cluster: one launcher (torchrun) per node, with the same arguments.

    python -m dualgeo_dagster.runtime.training_job FOLDER '{"seed": 3}' [--unattended]

FOLDER is the working directory on every node. The job prints what the training processes print, among it the messages
to Dagster. Exit code 0: training ended, or has reported its error to Dagster; 2: a user error, which is the last line;
otherwise the exit code of the training process that failed first.
"""

import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from dualgeo_core.base.errors import InputError
from dualgeo_core.pipeline.cluster import connected, enter, resources
from dualgeo_core.settings import Profile, load_settings
from dualgeo_dagster.runtime.several_processes import KILLED, KILLED_CODE, OUTAGE, USER_ERROR, launch_command

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

    def start(self, command: Sequence[str]) -> None:
        """Starts the processes."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "errors": "replace"}
        self._process = subprocess.Popen(command, env={**os.environ, **UNBUFFERED}, **pipes)
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
    import ray
    from ray.exceptions import RayTaskError

    launchers = _launchers(profile)
    try:
        places = ray.get([launcher.enter.remote(Path.cwd()) for launcher in launchers])
    except RayTaskError as error:
        raise error.cause from None
    commands = [[*command, MODULE, *arguments] for command in _commands(profile, *places[0])]
    ray.get([launcher.start.remote(command) for launcher, command in zip(launchers, commands, strict=True)])
    running: Running = {
        launcher.next.remote(): (launcher, host) for launcher, (host, _) in zip(launchers, places, strict=True)
    }
    codes: list[int] = []
    try:
        while running and not any(codes):
            codes += _printed(running)
    finally:
        for launcher in launchers:
            launcher.stop.remote()
        while running:
            codes += _printed(running)
    if KILLED_CODE in codes:  # the others fail then, too, because they lose the connection to it
        raise InputError(KILLED)
    return next((code for code in codes if code), 0)


def _launchers(profile: Profile) -> list[Any]:
    """A launcher on each of the nodes that train. Raises InputError if the cluster does not have so many in time."""
    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    assert profile.training_nodes is not None, "otherwise there is no job"
    cpus, gpus = resources(profile.ray, threads=profile.threads)
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


def _commands(profile: Profile, host: str, port: int) -> list[list[str]]:
    """Each node's command, up to the module that it runs. The processes meet at the first node."""
    nodes = profile.training_nodes or 1
    processes = profile.training.processes // nodes
    if nodes == 1:
        return [launch_command(processes)]
    meeting = ["--nnodes", str(nodes), "--master-addr", host, "--master-port", str(port)]
    return [launch_command(processes, together=[*meeting, "--node-rank", str(number)]) for number in range(nodes)]


def _printed(running: Running) -> list[int]:
    """Prints the next line of a node. If the node has ended, removes it instead, and returns its exit code.

    Raises InputError if a node dies.
    """
    import ray
    from ray.exceptions import RayActorError

    (done,), _ = ray.wait(list(running), num_returns=1)
    launcher, host = running.pop(done)
    try:
        line = ray.get(done)
    except RayActorError:
        raise InputError(
            f"node {host} died during training: see the cluster's dashboard for the cause. With unchanged settings, "
            "the next run resumes from the last checkpoint"
        ) from None
    if isinstance(line, int):
        return [line]
    print(line, flush=True)
    running[launcher.next.remote()] = launcher, host
    return []


if __name__ == "__main__":
    main()
