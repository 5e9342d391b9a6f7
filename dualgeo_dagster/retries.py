"""Retries after external failures: a server that is down, a lost connection or a locked database."""

import functools
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    import dagster as dg

RETRIES = 4
FIRST_WAIT_S = 10  # doubled after each retry; 150 s in total

Parameters = ParamSpec("Parameters")


def retried(make: "Callable[Parameters, dg.MaterializeResult]") -> "Callable[Parameters, dg.MaterializeResult]":
    """Wraps an asset's function: retries with growing waits after a connection failure, not after other errors."""

    @functools.wraps(make)
    def attempt(*args: Parameters.args, **kwargs: Parameters.kwargs) -> "dg.MaterializeResult":
        try:
            return make(*args, **kwargs)
        except Exception as error:
            if not comes_from_outside(error):
                raise
            import dagster as dg  # here, because commands without Dagster import this module

            tried = dg.AssetExecutionContext.get().op_execution_context.retry_number
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=[*waits_s(), 0][tried]) from error

    return attempt


def waits_s() -> list[int]:
    """The wait before each retry in seconds."""
    return [FIRST_WAIT_S * 2**tried for tried in range(RETRIES)]


def comes_from_outside(error: BaseException | None) -> bool:
    """Whether the error was caused by a failed connection, a server error or a locked database.

    User errors and bugs are not.
    """
    while error is not None:
        if _is_outage(error):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _is_outage(error: BaseException) -> bool:
    import urllib3
    from mlflow.exceptions import RestException

    if isinstance(error, RestException):
        return error.get_http_status_code() >= 500
    return is_locked(error) or isinstance(error, ConnectionError | TimeoutError | urllib3.exceptions.HTTPError)


def is_locked(error: BaseException) -> bool:
    """Whether SQLite waited in vain for another process to release the database."""
    if not isinstance(error, sqlite3.OperationalError):
        return False
    primary_code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits are the extended code
    return primary_code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
