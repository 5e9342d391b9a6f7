"""Graceful stop: after SIGTERM or Ctrl-C the current step finishes, so that a checkpoint can be written."""

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

import psutil

STOPPED = 143  # exit code of a process that SIGTERM ended: 128 + 15
ECHO_SECONDS = 2.0  # one Ctrl-C arrives twice: from the terminal, and forwarded by the parent process


class TrainingInterruptedError(RuntimeError):
    """Training stopped on request; its checkpoint or its finished model is saved."""


def stop_with_parent(parent: int) -> None:
    """Stops this process at a checkpoint when its parent process dies, or has died already; `parent` is its id.

    Otherwise it would continue unobserved, and write to the same folder as the run that replaces it.
    """
    threading.Thread(target=_stop_after, args=[parent], daemon=True).start()


def _stop_after(parent: int) -> None:
    with suppress(psutil.NoSuchProcess):
        if os.getppid() == parent:
            psutil.Process(parent).wait()
    os.kill(os.getpid(), signal.SIGTERM)


class Interruption:
    """Context manager that sets `requested` on SIGTERM or SIGINT instead of ending the process.

    It has no effect outside the main thread. A second Ctrl-C ends the process without waiting for the step; a second
    SIGTERM does not, because service managers send SIGKILL instead.
    """

    def __init__(self) -> None:
        self.requested = False
        self._requested_at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._requested_at = True, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._requested_at > ECHO_SECONDS:
            self._restore()
            os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
