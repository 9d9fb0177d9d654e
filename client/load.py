"""Load on a server, and what it saw: a closed loop, or an open one at a fixed rate. Knows no gRPC and no terminal."""

import asyncio
import bisect
import itertools
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from client.errors import ClientError

Send = Callable[[], Awaitable[object]]
Clock = Callable[[], float]

_MAX_BUCKETS = 14
# Steps of a latency axis: each is about half as much again as the one before.
_STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)


@dataclass
class Load:
    """What a load has seen.

    Attributes:
        latencies_ms: of the requests that were answered, in no order.
        errors: how many requests failed, by the message of their error.
        never_sent: requests of an open loop that were due, and could not be sent before its end.
        seconds: from the first request to the last answer.
    """

    latencies_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    never_sent: int = 0
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        return len(self.latencies_ms)

    @property
    def failed(self) -> int:
        """How many requests were answered with an error, or not at all."""
        return self.errors.total()


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many requests took from `low_ms` to less than `high_ms`."""

    low_ms: float
    high_ms: float
    requests: int


async def closed_loop(send: Send, *, in_flight: int, seconds: float, requests: int | None = None) -> Load:
    """Keep `in_flight` requests under way: each answer is followed by the next request.

    A slow server is asked less often, so that its latency looks better than callers who do not wait for
    each other would find it.

    Args:
        send: makes one request; its `ClientError`s are counted.
        in_flight: how many requests are under way at any moment.
        seconds: after which no request is begun.
        requests: after how many none is begun; None: no bound.
    """
    load, numbers = Load(), itertools.count()
    started = time.perf_counter()

    async def ask() -> None:
        while time.perf_counter() < started + seconds and (requests is None or next(numbers) < requests):
            await _send(send, load, due=time.perf_counter())

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(ask())
    load.seconds = time.perf_counter() - started
    return load


async def open_loop(
    send: Send, *, rate: float, max_in_flight: int, seconds: float, requests: int | None = None
) -> Load:
    """Send `rate` requests per second, whether or not earlier ones were answered.

    A request's latency counts from the moment at which it was due, so that a server that makes callers
    queue up is not flattered (coordinated omission).

    Args:
        send: makes one request; its `ClientError`s are counted.
        rate: requests per second, evenly spaced.
        max_in_flight: so many are under way at most; others wait, and their latency grows.
        seconds: after which no request is due.
        requests: after how many none is due; None: no bound.
    """
    load, room = Load(), asyncio.Semaphore(max_in_flight)
    started = time.perf_counter()
    total = min(math.ceil(rate * seconds), requests or math.inf)

    async def ask(due: float) -> None:
        try:
            await _send(send, load, due=due)
        finally:
            room.release()

    async with asyncio.TaskGroup() as group:
        number = 0
        while number < total and time.perf_counter() < started + seconds:
            due = started + number / rate
            await asyncio.sleep(due - time.perf_counter())
            await room.acquire()
            group.create_task(ask(due))
            number += 1
        load.never_sent = int(total - number)
    load.seconds = time.perf_counter() - started
    return load


async def _send(send: Send, load: Load, *, due: float) -> None:
    try:
        await send()
    except ClientError as exc:
        load.errors[str(exc)] += 1
    else:
        load.latencies_ms.append((time.perf_counter() - due) * 1000)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of all values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("expected at least one value, got none")
    ranked = sorted(values)
    return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


def histogram(latencies_ms: Sequence[float]) -> list[Bucket]:
    """Count latencies in buckets of about equal width on a logarithmic axis, from the lowest to the highest."""
    bounds = _bounds(min(latencies_ms), max(latencies_ms))
    counts = Counter(bisect.bisect_right(bounds, latency) - 1 for latency in latencies_ms)
    return [Bucket(low, high, counts[place]) for place, (low, high) in enumerate(itertools.pairwise(bounds))]


def _bounds(lowest: float, highest: float) -> list[float]:
    """Return round numbers, the first at most `lowest`, the last more than `highest`; coarser where many are needed."""
    powers = range(math.floor(math.log10(max(lowest, 1e-3))), math.ceil(math.log10(max(highest, 1e-3))) + 1)
    for steps in (_STEPS, (1.0, 2.0, 5.0), (1.0,)):
        axis = [0.0, *(step * 10.0**power for power in powers for step in steps), math.inf]
        first = bisect.bisect_right(axis, lowest) - 1
        bounds = axis[first : bisect.bisect_right(axis, highest) + 1]
        if len(bounds) <= _MAX_BUCKETS + 1:
            break
    return bounds
