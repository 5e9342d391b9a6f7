"""Time, processor time and memory of a block of code, with all processes that it starts."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

SAMPLED_EVERY_S = 0.05


@dataclass
class Reading:
    """Seconds, seconds of processor time, and the largest memory (resident bytes) that was seen."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: float = 0.0


@contextmanager
def metered() -> Iterator[Reading]:
    """A reading that is complete after the block."""
    reading, process, over = Reading(), psutil.Process(), threading.Event()
    seen: dict[int, float] = {}

    def sample() -> None:
        reading.memory = max(reading.memory, _sample(process, seen))

    def watch() -> None:
        while not over.wait(SAMPLED_EVERY_S):
            sample()

    sample()
    before = dict(seen)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.monotonic()
    try:
        yield reading
    finally:
        reading.seconds = time.monotonic() - began
        over.set()
        watcher.join()
        sample()
        reading.cpu_seconds = sum(used - before.get(pid, 0.0) for pid, used in seen.items())


def _sample(process: psutil.Process, seen: dict[int, float]) -> float:
    """The resident bytes of a process and its children; adds the processor time of each to `seen`."""
    memory = 0.0
    for member in (process, *process.children(recursive=True)):
        try:
            times = member.cpu_times()
            seen[member.pid] = times.user + times.system
            memory += member.memory_info().rss
        except psutil.Error:  # it has ended
            continue
    return memory
