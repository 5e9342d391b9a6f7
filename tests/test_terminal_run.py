"""A run in a terminal: progress lines, the live display, and the lines of a pipe."""

import io

import dagster as dg
import pytest
from conftest import Home
from rich.console import Console

from dualgeo_core.base.progress import heard, spoken
from dualgeo_dagster.runtime.display import LineDisplay, LiveDisplay


@pytest.fixture(scope="module")
def events() -> list[dg.EventLogEntry]:
    """The event log of a run: a step that counts, a step that is retried, a step that fails."""

    @dg.op
    def count(context: dg.OpExecutionContext) -> int:
        context.log.info("features: 200/2400 (38/s)")
        context.log.info("not a report")
        return 1

    @dg.op
    def fail(context: dg.OpExecutionContext, counted: int) -> None:
        context.log.warning("two photos are damaged")
        raise dg.Failure("no disk")

    @dg.job
    def two_steps() -> None:
        fail(count())

    with dg.DagsterInstance.ephemeral() as instance:
        done = two_steps.execute_in_process(instance=instance, raise_on_error=False)
        return list(instance.all_logs(done.run_id))


def test_a_pipe_gets_one_line_per_finished_step(events: list[dg.EventLogEntry], capsys) -> None:
    with LineDisplay() as shown:
        for entry in events:
            shown.show(entry)
    lines = [line.split("  ", 1)[1] for line in capsys.readouterr().err.splitlines() if line[2:3] == ":"]
    assert lines[0].startswith("count ✓ ")
    assert lines[1] == "fail: two photos are damaged"
    assert lines[2].startswith("fail failed: ")
    assert "no disk" in lines[2]
    assert len(lines) == 3


def test_a_terminal_shows_bars_and_keeps_a_line_per_finished_step(events: list[dg.EventLogEntry]) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140, color_system=None)
    with LiveDisplay(console, steps=2) as shown:
        for entry in events:
            shown.show(entry)
    printed = screen.getvalue()
    assert "200/2,400 (38/s)" in printed
    [finished] = [line for line in printed.splitlines() if "✓ count" in line]
    assert "━━━━" in finished
    assert "0:00" in finished
    assert "fail failed" in printed
    assert "not a report" not in printed


def test_a_pass_is_reported_once_and_its_rate_leaves_out_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 10.0, 100.0, 110.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    said: list[str] = []
    report = spoken(said.append)
    report("features", 100, 150)  # 100 photos were there already
    report("features", 150, 150)
    report("features", 150, 150)
    report("features", 10, 150)  # the next benchmark
    report("features", 150, 150)
    assert said == ["features: 150/150 (5/s)", "features: 150/150 (14/s)"]
    found = heard(said[0])
    assert found == ("features", 150, 150, " (5/s)")
    assert heard("DVC: nothing to do") is None


def test_the_terminal_is_told_of_steps_only(graph_home: Home) -> None:
    lines = graph_home.told.splitlines()
    assert len(lines) == 28
    assert all(" ✓ " in line for line in lines)


def test_a_run_from_the_terminal_is_a_run_of_the_workspace(graph_home: Home) -> None:
    """Dagster's pages list it under the job of its code location, and can execute it again."""
    instance = dg.DagsterInstance.from_config(str(graph_home.path / ".dagster"))
    [run] = instance.get_runs(
        dg.RunsFilter(job_name="tiny_everything", tags={".dagster/repository": "__repository__@tiny"})
    )
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == "tiny"
    assert run.job_code_origin is not None
    engine = [entry.message for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)]
    assert any("Started process for run" in message for message in engine)
