"""How long work tells how far it is: a callable (what, done, total) that a terminal or an orchestrator listens with."""

import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Listens to nothing."""


def spoken(say: Callable[[str], None], every_s: float = 5.0) -> Progress:
    """Says `what: done/total (rate/s)` at most every `every_s` seconds, and at each end."""
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
