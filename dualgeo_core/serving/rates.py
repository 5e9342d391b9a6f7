"""A token bucket per client: bursts are allowed, and a sustained rate is not exceeded."""

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_CLIENTS = 10_000  # the client that was quiet for longest is forgotten first


class RateLimit:
    """At most `burst` requests at once and `per_minute` sustained, for each client."""

    def __init__(self, *, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_minute / 60, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """0 if the client may send a request now, which is then counted; otherwise the seconds until it may."""
        now = self._clock()
        left, since = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._per_second
