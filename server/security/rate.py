"""How often each client may ask: a token bucket for each, refilled with time. Pure but for a clock."""

import collections
import time
from collections.abc import Callable
from dataclasses import dataclass

# About 2 MB. Whoever was not heard of for longest is forgotten first, and has a full bucket again.
_MAX_CLIENTS = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    looked_at: float


class RateLimit:
    """Each client may send `burst` requests at once, and `per_second` in the long run."""

    def __init__(self, per_second: float, *, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: collections.OrderedDict[str, _Bucket] = collections.OrderedDict()

    def take(self, client: str) -> float:
        """Take note of a request; return 0, or how many seconds too early it came, and then it does not count."""
        now = self._clock()
        bucket = self._bucket(client, now)
        bucket.left = min(self._burst, bucket.left + (now - bucket.looked_at) * self._per_second)
        bucket.looked_at = now
        if bucket.left >= 1:
            bucket.left -= 1
            return 0.0
        return (1 - bucket.left) / self._per_second

    def _bucket(self, client: str, now: float) -> _Bucket:
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = _Bucket(self._burst, now)
            if len(self._buckets) > _MAX_CLIENTS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(client)
        return bucket
