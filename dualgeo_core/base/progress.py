"""Progress reports of long-running work: a callable (what, done, total), for a terminal or an orchestrator."""

import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Ignores all progress reports."""


def spoken(say: Callable[[str], None], every_s: float = 5.0) -> Progress:
    """A progress callable that passes lines `what: done/total (rate/s)` to `say`.

    For each `what` there is one line at completion, and before that at most one every `every_s` seconds.
    """
    started: dict[str, float] = {}
    last: dict[str, float] = {}

    def report(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        started.setdefault(what, now)
        if done < total and now - last.setdefault(what, now) < every_s:
            return
        last[what] = now
        elapsed = now - started[what]
        rate = f" ({done / elapsed:.0f}/s)" if elapsed > 0.5 else ""
        say(f"{what}: {done}/{total}{rate}")

    return report
