import asyncio
import itertools

import pytest

from client.errors import Overloaded
from client.load import Bucket, closed_loop, histogram, open_loop, percentile
from tests.polling import eventually


class FakeService:
    """Answers each request when the event loop comes round again; of every `refuse_each` it refuses one.

    Attributes:
        requests: how many have come.
        most_in_flight: how many were under way at once.
        gate: while it is cleared, nothing is answered.
    """

    def __init__(self, *, refuse_each: int = 0) -> None:
        self.requests = 0
        self.most_in_flight = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._in_flight = 0
        self._refuse_each = refuse_each

    async def __call__(self) -> None:
        self.requests += 1
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        number = self.requests
        await asyncio.sleep(0)
        await self.gate.wait()
        self._in_flight -= 1
        if self._refuse_each and number % self._refuse_each == 0:
            raise Overloaded("queue full")


async def test_closed_loop_keeps_so_many_in_flight() -> None:
    """Never more than `in_flight` are under way, and all of them are."""
    service = FakeService()

    load = await closed_loop(service, in_flight=7, seconds=60, requests=100)

    assert (load.answered, load.failed, service.requests, service.most_in_flight) == (100, 0, 100, 7)


async def test_closed_loop_ends_with_its_time() -> None:
    """When the time is over, what is under way is still answered and counted."""
    service = FakeService()

    load = await closed_loop(service, in_flight=3, seconds=0.05)

    assert load.answered == service.requests > 0
    assert load.seconds >= 0.05


async def test_failures_are_counted_by_their_message() -> None:
    """A request that fails ends nothing, and its latency is not among those of the answers."""
    load = await closed_loop(FakeService(refuse_each=4), in_flight=2, seconds=60, requests=20)

    assert (load.answered, load.failed, load.errors) == (15, 5, {"queue full": 5})


async def test_open_loop_keeps_its_pace() -> None:
    """As many requests are sent as the rate asks for, whether or not they are answered."""
    service = FakeService()
    service.gate.clear()

    async with asyncio.TaskGroup() as group:
        running = group.create_task(open_loop(service, rate=1000, max_in_flight=1000, seconds=60, requests=50))
        await eventually(lambda: service.requests == 50, within_seconds=30)
        service.gate.set()

    assert (running.result().answered, service.most_in_flight) == (50, 50)
    assert running.result().seconds >= 49 / 1000


async def test_open_loop_counts_the_wait_for_a_slow_server() -> None:
    """A latency begins when the request was due, so that waiting for room is part of it."""
    service = FakeService()
    service.gate.clear()

    async with asyncio.TaskGroup() as group:
        running = group.create_task(open_loop(service, rate=1000, max_in_flight=1, seconds=60, requests=3))
        await asyncio.sleep(0.1)
        service.gate.set()

    assert service.most_in_flight == 1
    assert min(running.result().latencies_ms) >= 90


async def test_open_loop_says_what_it_could_not_send() -> None:
    """A server that never answers is not sent for ever what was due."""
    service = FakeService()
    service.gate.clear()

    async with asyncio.TaskGroup() as group:
        running = group.create_task(open_loop(service, rate=100, max_in_flight=2, seconds=0.2))
        await asyncio.sleep(0.3)
        service.gate.set()

    load = running.result()
    assert load.answered + load.never_sent == 20
    assert load.never_sent >= 10


def test_percentile_is_one_of_the_values() -> None:
    """By nearest rank: no value is made up between two."""
    values = [float(number) for number in range(1, 101)]

    assert [percentile(values, percent) for percent in (0, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]
    assert percentile([3.0], 99) == 3.0
    with pytest.raises(ValueError, match="expected at least one value, got none"):
        percentile([], 50)


def test_histogram_counts_every_latency() -> None:
    """Buckets have round bounds, lie side by side, and an empty one between two others is shown."""
    buckets = histogram([1.0, 1.2, 1.49, 3.0])

    assert buckets == [Bucket(1.0, 1.5, 3), Bucket(1.5, 2.0, 0), Bucket(2.0, 3.0, 0), Bucket(3.0, 5.0, 1)]


@pytest.mark.parametrize(
    "latencies_ms", [[0.0], [0.0004, 1e5], [1e-9, 1e9], [0.7], [100.0, 1000.0], [5.0] * 10, [0.3, 40.0, 7000.0]]
)
def test_histogram_stays_readable(latencies_ms: list[float]) -> None:
    """However wide the latencies spread, all are counted, in at most some twenty buckets."""
    buckets = histogram(latencies_ms)

    assert sum(bucket.requests for bucket in buckets) == len(latencies_ms)
    assert len(buckets) <= 20
    assert all(left.high_ms == right.low_ms for left, right in itertools.pairwise(buckets))
    assert (buckets[0].requests > 0, buckets[-1].requests > 0) == (True, True)
