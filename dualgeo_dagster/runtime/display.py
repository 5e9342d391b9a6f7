"""What a terminal shows of a run: a live line with a bar per running step, or one line per finished step."""

import logging
import sys
from types import TracebackType
from typing import Self

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from dualgeo_core.base.progress import heard
from dualgeo_dagster.runtime.console import line_of

BAR, NAME = 24, 44  # widths in characters


class LineDisplay:
    """One line per finished step, for pipes and log files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, entry: dg.EventLogEntry) -> None:
        line = line_of(entry)
        if line is not None:
            self.say(line)

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class LiveDisplay(LineDisplay):
    """A bar for the whole run and one for the running step. Finished steps scroll up as lines with full bars."""

    def __init__(self, console: Console, *, steps: int) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=BAR),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._run = self._progress.add_task(f"{'whole run':{NAME}}", total=steps, count=f"0 of {steps} steps")
        self._steps, self._finished = steps, 0
        self._running: dict[str, TaskID] = {}
        self._counts: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, entry: dg.EventLogEntry) -> None:
        step, event = entry.step_key or "", entry.dagster_event
        if event is None and int(entry.level) < logging.WARNING:
            self._advance(step, entry.user_message)
            return
        kind = event.event_type_value if event is not None else None
        if kind == "STEP_START":
            self._running[step] = self._progress.add_task(_fitted(step), total=None, count="")
        elif kind == "STEP_SUCCESS":
            assert event is not None
            self._finish(step, seconds=event.event_specific_data.duration_ms / 1000)  # type: ignore[union-attr]
        else:
            if kind in ("STEP_FAILURE", "STEP_UP_FOR_RETRY"):
                self._remove(step)
            super().show(entry)

    def say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False)

    def _advance(self, step: str, message: str) -> None:
        report = heard(message)
        if report is None or step not in self._running:
            return
        self._counts[step] = count = f"{report.done:,}/{report.total:,}{report.rate}"
        description = _fitted(f"{step}: {report.what}")
        self._progress.update(
            self._running[step], completed=report.done, total=report.total, description=description, count=count
        )

    def _finish(self, step: str, *, seconds: float) -> None:
        self._remove(step)
        self._finished += 1
        self._progress.update(self._run, advance=1, count=f"{self._finished} of {self._steps} steps")
        minutes, rest = divmod(round(seconds), 60)
        bar, count = f"[green]{'━' * BAR}[/]", self._counts.pop(step, "")
        self._progress.console.print(
            f"[green]✓[/] {_fitted(step)} {bar} {minutes:2}:{rest:02}  {count}", highlight=False, soft_wrap=True
        )

    def _remove(self, step: str) -> None:
        if step in self._running:
            self._progress.remove_task(self._running.pop(step))


def _fitted(name: str) -> str:
    return f"{name:{NAME}.{NAME}}"


def display(*, steps: int) -> LineDisplay:
    """The live display on a terminal, otherwise the lines."""
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveDisplay(console, steps=steps)
    return LineDisplay()
