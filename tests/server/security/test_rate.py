import pytest

from server.security import rate
from server.security.rate import RateLimit


class Clock:
    """Stands still until it is moved.

    Attributes:
        now: seconds.
    """

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_burst_passes_and_then_the_rate_counts(clock: Clock) -> None:
    """Three at once, then one for each half second; who comes too early is told by how much."""
    limit = RateLimit(2.0, burst=3, clock=clock)

    assert [limit.take("shop") for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    clock.now += 0.5
    assert [limit.take("shop") for _ in range(2)] == [0, 0.5]


def test_rest_fills_no_more_than_a_burst(clock: Clock) -> None:
    """Whoever was silent for a day may send a burst, not a day's worth."""
    limit = RateLimit(2.0, burst=3, clock=clock)
    limit.take("shop")
    clock.now += 86_400

    assert [limit.take("shop") > 0 for _ in range(4)] == [False, False, False, True]


def test_clients_do_not_share(clock: Clock) -> None:
    """One client's excess costs the others nothing."""
    limit = RateLimit(1.0, burst=1, clock=clock)

    assert [limit.take("shop"), limit.take("shop"), limit.take("alice")] == [0, 1, 0]


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more clients than fit, the one not heard of for longest is forgotten."""
    monkeypatch.setattr(rate, "_MAX_CLIENTS", 2)
    limit = RateLimit(1.0, burst=1, clock=clock)
    for client in ("first", "second", "first", "third"):
        limit.take(client)

    assert limit.take("first") == 1
    assert limit.take("second") == 0
