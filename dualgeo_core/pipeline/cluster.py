"""Writes shards on the nodes of a Ray cluster: the one that RAY_ADDRESS names, otherwise this machine.

All nodes share the file system. A worker receives a shard's name, writes its file and returns the digest; nothing large
passes through Ray's object store. A worker holds one shard at a time. If it dies, another takes its place and its
shard; what it had finished is found on disk.
"""

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualgeo_core.base.digests import FileDigest
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import one_line
from dualgeo_core.base.shards import Advance, ShardTask, Write, write_shard
from dualgeo_core.settings import Environment, RaySettings

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray reads it when it is imported
import ray
from ray.exceptions import RayError, RayTaskError

ATTEMPTS = 3  # to write one shard, or to start a worker


class Worker:
    """A process of the cluster that writes shards."""

    def __init__(self, folder: Path, open_writer: Callable[[], Write]) -> None:
        self._folder, self._open_writer = folder, open_writer

    def open(self) -> None:
        """Loads the models. Raises InputError if this node does not have the coordinator's folder."""
        enter(self._folder)
        self._write = self._open_writer()

    def write(self, task: ShardTask) -> FileDigest:
        """Writes the shard, unless it is there."""
        return write_shard(task, self._write, lambda rows: None)


@dataclass(frozen=True)
class Cluster:
    """The engine that has workers of a Ray cluster write the shards, each with a writer that it opens itself."""

    open_writer: Callable[[], Write]
    settings: RaySettings
    threads: int
    device: str | None

    def __call__(
        self, tasks: Sequence[ShardTask], write: Write, advance: Advance
    ) -> Iterator[tuple[ShardTask, FileDigest]]:
        """Yields each task as it is finished. Raises InputError if bad input or repeated failures stop a shard."""
        if not tasks:
            return
        with connected():
            cpus, gpus = resources(self.settings, threads=self.threads, device=self.device)
            worker = ray.remote(num_cpus=cpus, num_gpus=gpus)(Worker)
            pool = _Pool(start=lambda: worker.remote(Path.cwd(), self.open_writer), waiting=deque(tasks))
            try:
                yield from pool.run(min(len(tasks), self.settings.actors or _most_workers(cpus, gpus)))
            finally:
                pool.close()


@dataclass
class _Pool:
    """Workers, and the shards that wait for one. A worker has a shard only once its models are loaded."""

    start: Callable[[], Any]
    waiting: deque[ShardTask]
    loading: dict[Any, Any] = field(default_factory=dict)  # result to come: its worker
    writing: dict[Any, tuple[Any, ShardTask]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)

    def run(self, workers: int) -> Iterator[tuple[ShardTask, FileDigest]]:
        for _ in range(workers):
            self._add_worker()
        while self.waiting or self.writing:
            (done,), _ = ray.wait([*self.loading, *self.writing], num_returns=1)
            if done in self.loading:
                self._loaded(done)
            else:
                yield from self._written(done)

    def close(self) -> None:
        """Ends all workers."""
        for worker in [*self.loading.values(), *(worker for worker, _ in self.writing.values())]:
            ray.kill(worker)

    def _add_worker(self) -> None:
        worker = self.start()
        self.loading[worker.open.remote()] = worker

    def _loaded(self, done: Any) -> None:
        worker = self.loading.pop(done)
        try:
            ray.get(done)
        except RayError as error:
            self._failed("a worker", error)
            self._add_worker()
        else:
            self._give_shard(worker)

    def _written(self, done: Any) -> Iterator[tuple[ShardTask, FileDigest]]:
        worker, task = self.writing.pop(done)
        try:
            digest = ray.get(done)
        except RayError as error:
            self._failed(f"shard {task.key.name}", error)
            self.waiting.append(task)
            ray.kill(worker)
            self._add_worker()
        else:
            self._give_shard(worker)
            yield task, digest

    def _give_shard(self, worker: Any) -> None:
        if self.waiting:
            task = self.waiting.popleft()
            self.writing[worker.write.remote(task)] = worker, task
        else:
            ray.kill(worker)

    def _failed(self, what: str, error: RayError) -> None:
        """Counts a failure. Raises InputError if trying again would not help."""
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, InputError):
            raise InputError(str(cause)) from None
        self.failures[what] += 1
        if self.failures[what] == ATTEMPTS:
            raise InputError(
                f"{what} failed {ATTEMPTS} times on the cluster, last with {one_line(cause)}: "
                "see the logs of Ray's workers, mend the cause and run the step again"
            ) from cause
        logging.getLogger(__name__).warning("%s failed and is tried again: %s", what, one_line(cause))


def enter(folder: Path) -> None:
    """Makes `folder` the working directory. Raises InputError if this node does not have the coordinator's folder."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"node {os.uname().nodename} has no folder {folder} ({error.strerror}); "
            "share the file system between the nodes of the cluster"
        ) from None


def resources(settings: RaySettings, *, threads: int, device: str | None) -> tuple[int, float]:
    """CPUs and GPUs of a process on the connected cluster."""
    gpus = settings.gpus
    if gpus is None:
        gpus = 1 if device != "cpu" and ray.cluster_resources().get("GPU") else 0
    return settings.cpus or threads, gpus


@contextmanager
def connected() -> Iterator[None]:
    """A connection to the cluster, which is closed at the end."""
    require_head(Environment().ray_address)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the Ray cluster cannot be reached ({one_line(error)}); correct RAY_ADDRESS or start the cluster, "
            "or set engine to local"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def require_head(address: str | None) -> None:
    """Raises InputError if nothing listens at the address; Ray would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(
            f"no Ray cluster answers at RAY_ADDRESS {address} ({one_line(error)}); correct it, start the cluster, "
            "or set engine to local"
        ) from None


def _most_workers(cpus: int, gpus: float) -> int:
    """How many workers the CPUs and GPUs of the cluster allow, at least one."""
    there = ray.cluster_resources()
    allowed = [there.get("CPU", 0) // cpus] + ([there.get("GPU", 0) // gpus] if gpus else [])
    return max(1, int(min(allowed)))
