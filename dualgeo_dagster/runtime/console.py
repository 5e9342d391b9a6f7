"""The events of a run as lines for a terminal, a pipe or a log file."""

import logging
from datetime import datetime
from typing import Any

import dagster as dg

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.mlflow.store import without_password


def user_error(event: dg.DagsterEvent) -> str | None:
    """The message of the InputError that caused a step failure; None for any other cause."""
    error = _innermost(event)
    if error is None or error.cls_name != InputError.__name__:
        return None
    return str(error.message.strip().removeprefix(f"{InputError.__module__}.{InputError.__name__}: "))


def line_of(entry: dg.EventLogEntry) -> str | None:
    """The line about a finished, failed or retried step, a failed check or a warning; None for any other event."""
    clock = f"{datetime.fromtimestamp(entry.timestamp):%H:%M:%S}"
    event = entry.dagster_event
    if event is None:
        # Steps that are skipped after a failure get no line.
        is_warning = int(entry.level) >= logging.WARNING and "Dependencies for step" not in entry.user_message
        return f"{clock}  {entry.step_key}: {entry.user_message}" if is_warning else None
    text = _text(event)
    return None if text is None else f"{clock}  {text}"


def _text(event: dg.DagsterEvent) -> str | None:
    data: Any = event.event_specific_data
    if event.event_type_value == "STEP_SUCCESS":
        return f"{event.step_key} ✓ {data.duration_ms / 1000:.1f} s"
    if event.event_type_value == "STEP_UP_FOR_RETRY":
        wait = data.seconds_to_wait
        return f"{event.step_key} retries in {wait} s: {without_password(_innermost(event).message.strip())}"
    if event.event_type_value == "STEP_FAILURE":
        return f"{event.step_key} {_failure(event)}"
    if event.event_type_value == "ASSET_CHECK_EVALUATION" and not data.passed:
        return f"{data.asset_key.path[-1]}: the check {data.check_name} did not pass"
    return None


def _failure(event: dg.DagsterEvent) -> str:
    innermost = _innermost(event)
    if innermost is not None and innermost.cls_name == dg.DagsterExecutionInterruptedError.__name__:
        return "stopped. Run it again to resume from the last checkpoint"
    return f"failed: {user_error(event) or _error_of(event).to_string()}"


def _innermost(event: dg.DagsterEvent) -> Any:
    error = _error_of(event)
    while error is not None and error.cause is not None:
        error = error.cause
    return error


def _error_of(event: dg.DagsterEvent) -> Any:
    data: Any = event.event_specific_data
    return data.error
