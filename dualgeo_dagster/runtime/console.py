"""Terminal output of a run: one line per finished, failed or retried step, and the messages of the steps."""

import logging
from typing import Any

import dagster as dg

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.mlflow.store import without_password


def user_error(event: dg.DagsterEvent) -> str | None:
    """The message of the InputError that caused a step failure; None for any other cause."""
    error = _innermost(event)
    if error is None or error.cls_name != InputError.__name__:
        return None
    return error.message.strip().removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")


def _innermost(event: dg.DagsterEvent) -> Any:
    data: Any = event.event_specific_data
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error


class _Brief(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event")
        step = meta.get("step_key") or ""
        clock = self.formatTime(record, "%H:%M:%S")
        if event is None:
            return f"{clock}  {step}: {meta.get('orig_message', record.getMessage())}"
        if event.event_type_value == "STEP_UP_FOR_RETRY":
            wait = event.event_specific_data.seconds_to_wait
            return f"{clock}  {step} retries in {wait} s: {without_password(_innermost(event).message.strip())}"
        if event.event_type_value == "STEP_SUCCESS":
            return f"{clock}  {step} ✓ {event.event_specific_data.duration_ms / 1000:.1f} s"
        innermost = _innermost(event)
        if innermost is not None and innermost.cls_name == dg.DagsterExecutionInterruptedError.__name__:
            return f"{clock}  {step} stopped. Run it again to resume from the last checkpoint"
        error = user_error(event)
        return f"{clock}  {step} failed: {error or super().format(record)}"


class _OnlyNews(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event")
        if event is None:
            # Steps skipped after a failure get no line.
            return record.levelno >= logging.INFO and "Dependencies for step" not in record.getMessage()
        return event.event_type_value in ("STEP_SUCCESS", "STEP_FAILURE", "STEP_UP_FOR_RETRY")


@dg.logger(config_schema={})
def console(init_context: dg.InitLoggerContext) -> logging.Logger:
    """The logger for runs in a terminal: one line per finished step and per message."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Brief())
    handler.addFilter(_OnlyNews())
    logger = logging.Logger("dualgeo", level=logging.DEBUG)
    logger.addHandler(handler)
    return logger
