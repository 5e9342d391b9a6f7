"""Refusals of requests: an HTTP status with one line that says why and what to do."""


class Refused(Exception):  # noqa: N818 - a refusal is an answer, no error of this program
    """A request that is answered with `status` and `message`; `retry_after_s` tells when to ask again."""

    def __init__(self, status: int, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after_s = status, message, retry_after_s
