"""Progress reports of long-running work: a callable (what, done, total), for a terminal or an orchestrator."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Ignores all progress reports."""


@dataclass
class _Call:
    """One pass over `total` items: where and when it began, and the last report."""

    began: float
    first: int
    done: int
    spoken: float

    def rate(self, now: float) -> str:
        """The items per second since the first report, which leaves out what an earlier call had done."""
        elapsed = now - self.began
        return f" ({(self.done - self.first) / elapsed:.0f}/s)" if elapsed > 0.5 else ""


def spoken(say: Callable[[str], None], every_s: float = 5.0) -> Progress:
    """A progress callable that passes lines `what: done/total (rate/s)` to `say`.

    For each pass over the items there is one line at completion, and before that at most one every `every_s` seconds.
    A pass ends with `done == total`; a report that goes back begins a new one.
    """
    calls: dict[str, _Call] = {}

    def report(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        call = calls.get(what)
        if call is not None and done == call.done == total:
            return
        if call is None or done < call.done:
            calls[what] = call = _Call(began=now, first=done, done=done, spoken=now)
        call.done = done
        if done < total and now - call.spoken < every_s:
            return
        call.spoken = now
        say(f"{what}: {done}/{total}{call.rate(now)}")

    return report


class Heard(NamedTuple):
    """What a line of `spoken` says; `rate` as written, empty if there is none."""

    what: str
    done: int
    total: int
    rate: str


def heard(line: str) -> Heard | None:
    """The report in a line that `spoken` wrote; None for any other line."""
    found = re.fullmatch(r"(.+): (\d+)/(\d+)( \(\d+/s\))?", line)
    return Heard(found[1], int(found[2]), int(found[3]), found[4] or "") if found else None
