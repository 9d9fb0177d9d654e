import pytest

from server.batches import BatchRecord, DispatchReason, PassFailure
from server.statistics import Statistics


def test_passes_are_counted_by_size() -> None:
    """Each pass that gave results counts its pictures and its time, under its size."""
    statistics = Statistics()
    for size in (2, 2, 5):
        statistics.observe_pass(BatchRecord(size, DispatchReason.IDLE, 0.25, ()))

    assert statistics.images == 9
    assert {size: (total.count, total.seconds) for size, total in statistics.passes.items()} == {
        2: (2, 0.5),
        5: (1, 0.25),
    }
    assert statistics.last_pass_unix_ms > 1_700_000_000_000


def test_pass_that_failed_computed_nothing() -> None:
    """A pass without results is no inference."""
    statistics = Statistics()
    statistics.observe_pass(BatchRecord(2, DispatchReason.IDLE, 0.25, (), PassFailure.ERROR))

    assert statistics == Statistics()


def test_stages_of_a_request_add_up_to_the_whole() -> None:
    """What is neither decoding, waiting nor computing is handing back."""
    statistics = Statistics()
    for compute_seconds in (0.4, 0.6):
        statistics.observe_answer(
            total_seconds=1.0, decode_seconds=0.1, queue_seconds=0.2, compute_seconds=compute_seconds
        )

    assert (statistics.answered.count, statistics.answered.seconds) == (2, 2.0)
    assert statistics.compute_seconds == pytest.approx(1.0)
    assert statistics.handback_seconds == pytest.approx(0.4)


def test_failed_request_is_counted_apart() -> None:
    """A request that failed has a time and no stages."""
    statistics = Statistics()
    statistics.observe_failure(0.5)

    assert (statistics.failed.count, statistics.failed.seconds) == (1, 0.5)
    assert statistics.answered.count == statistics.queue_seconds == 0
