"""Trying again what failed for a cause outside: a server that is down, a connection that was cut."""

import functools
from collections.abc import Callable
from typing import ParamSpec

import dagster as dg

RETRIES = 4
FIRST_WAIT_S = 10  # doubled with every further try: two and a half minutes in all

Parameters = ParamSpec("Parameters")


def retried(make: Callable[Parameters, dg.MaterializeResult]) -> Callable[Parameters, dg.MaterializeResult]:
    """An asset's function, tried again with growing waits where a connection failed; all else fails at once."""

    @functools.wraps(make)
    def attempt(*args: Parameters.args, **kwargs: Parameters.kwargs) -> dg.MaterializeResult:
        try:
            return make(*args, **kwargs)
        except Exception as error:
            if not comes_from_outside(error):
                raise
            tried = dg.AssetExecutionContext.get().op_execution_context.retry_number
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=[*waits_s(), 0][tried]) from error

    return attempt


def waits_s() -> list[int]:
    """The waits before each further try."""
    return [FIRST_WAIT_S * 2**tried for tried in range(RETRIES)]


def comes_from_outside(error: BaseException | None) -> bool:
    """Whether a connection is at the bottom of it, and not a user's mistake or ours."""
    import urllib3
    from mlflow.exceptions import RestException

    outside = (ConnectionError, TimeoutError, urllib3.exceptions.HTTPError)
    while error is not None:
        if isinstance(error, outside) or (isinstance(error, RestException) and error.get_http_status_code() >= 500):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False
