"""Stopping on request: SIGTERM and Ctrl-C let the step in progress end, so that a checkpoint can be written."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

STOPPED = 143  # the exit code of a process that SIGTERM ended: 128 + 15
ECHO_SECONDS = 2.0  # one Ctrl-C comes twice: to all processes of a terminal, and passed on by the parent


class TrainingInterruptedError(RuntimeError):
    """Training was asked to stop, and left a checkpoint to go on from."""


class Interruption:
    """While entered in the main thread, notes SIGTERM or SIGINT in `requested` instead of dying of it.

    A later Ctrl-C has its usual effect: whoever insists need not wait for the step to end. Services insist by SIGKILL.
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
