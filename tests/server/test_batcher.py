import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from server.batcher import Batcher
from server.batches import Answer, BatchRecord, DispatchReason
from server.errors import DeadlineExceeded, Draining, EngineFailed, EngineLost, Overloaded
from tests.fakes import FakePredict
from tests.polling import eventually

Records = list[BatchRecord]


@pytest.fixture
def predict() -> FakePredict:
    return FakePredict()


@pytest.fixture
def records() -> Records:
    return []


def make_batcher(
    predict: FakePredict,
    records: Records,
    *,
    max_batch_size: int = 4,
    max_queue_items: int = 100,
    max_queue_delay_seconds: float = 0.0,
) -> Batcher[int, int]:
    return Batcher(
        predict,
        max_batch_size=max_batch_size,
        max_queue_items=max_queue_items,
        max_queue_delay_seconds=max_queue_delay_seconds,
        observe=records.append,
    )


@pytest.fixture
async def batcher(predict: FakePredict, records: Records) -> AsyncIterator[Batcher[int, int]]:
    async with make_batcher(predict, records) as batcher:
        yield batcher


async def submit_while_busy(
    batcher: Batcher[int, int], predict: FakePredict, *groups: list[int]
) -> list[asyncio.Task[Answer[int]]]:
    """Hold the engine with item 0 and queue `groups` behind it; the caller opens the gate."""
    predict.gate.clear()
    tasks = [asyncio.create_task(batcher.submit([0]))]
    await eventually(lambda: len(predict.batches) == 1)
    tasks += [asyncio.create_task(batcher.submit(group)) for group in groups]
    await eventually(lambda: batcher.queued_items == sum(map(len, groups)))
    return tasks


async def test_lone_item_is_answered_without_waiting(batcher: Batcher[int, int], records: Records) -> None:
    """A lone caller gets its answer at once, in a batch of one that left because the engine was idle."""
    answer = await batcher.submit([21])

    assert answer.results == [42]
    assert answer.batch_size == 1
    assert [(record.size, record.reason) for record in records] == [(1, DispatchReason.IDLE)]


async def test_what_waits_leaves_together(batcher: Batcher[int, int], predict: FakePredict) -> None:
    """Everything that arrived while the engine was busy leaves in one batch."""
    tasks = await submit_while_busy(batcher, predict, [1], [2], [3])
    predict.gate.set()
    answers = await asyncio.gather(*tasks)

    assert predict.batches == [[0], [1, 2, 3]]
    assert [list(answer.results) for answer in answers] == [[0], [2], [4], [6]]


async def test_batch_never_exceeds_its_bound(
    batcher: Batcher[int, int], predict: FakePredict, records: Records
) -> None:
    """A batch holds at most max_batch_size items, and a full one says so."""
    tasks = await submit_while_busy(batcher, predict, *([number] for number in range(1, 10)))
    predict.gate.set()
    await asyncio.gather(*tasks)

    assert [len(batch) for batch in predict.batches] == [1, 4, 4, 1]
    assert [record.reason for record in records] == ["idle", "full", "full", "idle"]


async def test_group_stays_together_and_in_order(batcher: Batcher[int, int], predict: FakePredict) -> None:
    """The items of one call are never torn apart by another caller's, and come back in order."""
    tasks = await submit_while_busy(batcher, predict, [1, 2, 3], [4, 5, 6])
    predict.gate.set()
    answers = await asyncio.gather(*tasks)

    assert predict.batches == [[0], [1, 2, 3], [4, 5, 6]]
    assert list(answers[2].results) == [8, 10, 12]


async def test_group_larger_than_a_batch_is_split(batcher: Batcher[int, int], predict: FakePredict) -> None:
    """More items than fit into a batch are computed in several, and answered as one."""
    answer = await batcher.submit(list(range(10)))

    assert list(answer.results) == [2 * number for number in range(10)]
    assert [len(batch) for batch in predict.batches] == [4, 4, 2]


async def test_queue_takes_exactly_its_bound(predict: FakePredict, records: Records) -> None:
    """With N places and a blocked engine, N items wait and every further one is refused at once."""
    async with make_batcher(predict, records, max_queue_items=5) as batcher:
        tasks = await submit_while_busy(batcher, predict, *([number] for number in range(5)))
        refusals = await asyncio.gather(*(batcher.submit([9]) for _ in range(7)), return_exceptions=True)
        predict.gate.set()
        answers = await asyncio.gather(*tasks)

    assert [type(refusal) for refusal in refusals] == [Overloaded] * 7
    assert len(answers) == 6


async def test_refusal_says_when_to_come_back(predict: FakePredict, records: Records) -> None:
    """An Overloaded error carries a positive time after which the queue has room."""
    async with make_batcher(predict, records, max_queue_items=1) as batcher:
        tasks = await submit_while_busy(batcher, predict, [1])
        with pytest.raises(Overloaded, match="1 of 1 wait, 1 more came") as refusal:
            await batcher.submit([2])
        predict.gate.set()
        await asyncio.gather(*tasks)

    assert refusal.value.retry_after_seconds > 0


async def test_cancelled_caller_leaves_the_others_alone(batcher: Batcher[int, int], predict: FakePredict) -> None:
    """A caller that goes away while it waits is never computed and costs its neighbours nothing."""
    tasks = await submit_while_busy(batcher, predict, [1], [2], [3])
    tasks[2].cancel()
    await eventually(tasks[2].done)
    predict.gate.set()
    answers = await asyncio.gather(tasks[0], tasks[1], tasks[3])

    assert predict.batches == [[0], [1, 3]]
    assert [list(answer.results) for answer in answers] == [[0], [2], [6]]


async def test_caller_that_leaves_during_the_batch_leaves_the_others_alone(
    batcher: Batcher[int, int], predict: FakePredict
) -> None:
    """A caller that goes away while its batch is computed costs its batch-mates nothing."""
    first, second = await submit_while_busy(batcher, predict, [1])
    first.cancel()
    await eventually(first.done)
    predict.gate.set()

    assert list((await second).results) == [2]


async def test_expired_items_are_never_executed(batcher: Batcher[int, int], predict: FakePredict) -> None:
    """Items whose deadline passed in the queue fail with DeadlineExceeded and are not computed."""
    tasks = await submit_while_busy(batcher, predict, [1])
    late = asyncio.create_task(batcher.submit([2], deadline=time.monotonic() - 1.0))
    await eventually(lambda: batcher.queued_items == 2)
    predict.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await asyncio.gather(*tasks)

    assert predict.batches == [[0], [1]]


async def test_failed_batch_fails_only_itself(batcher: Batcher[int, int], predict: FakePredict) -> None:
    """When predict raises, its callers get EngineFailed without internals, and the loop goes on."""
    predict.failures = [RuntimeError("secret detail")]
    with pytest.raises(EngineFailed) as failure:
        await batcher.submit([1])
    answer = await batcher.submit([2])

    assert "secret" not in str(failure.value)
    assert list(answer.results) == [4]


async def test_wrong_number_of_results_is_a_failure(records: Records) -> None:
    """A predict that returns too few results fails the batch, rather than answering wrong."""

    async def forgetful(items: Sequence[int]) -> list[int]:
        return list(items[1:])

    batcher: Batcher[int, int] = Batcher(
        forgetful, max_batch_size=4, max_queue_items=9, max_queue_delay_seconds=0.0, observe=records.append
    )
    async with batcher:
        with pytest.raises(EngineFailed):
            await batcher.submit([1, 2])

    assert {record.failure for record in records} == {"error"}


async def test_leaving_answers_everything_accepted(predict: FakePredict, records: Records) -> None:
    """Leaving the batcher refuses new work and answers what it has accepted."""
    batcher = make_batcher(predict, records)
    await batcher.__aenter__()
    tasks = await submit_while_busy(batcher, predict, [1], [2])
    leaving = asyncio.create_task(batcher.__aexit__())
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        await batcher.submit([3])
    predict.gate.set()
    await leaving

    assert [list(task.result().results) for task in tasks] == [[0], [2], [4]]


async def test_delay_counts_from_arrival(predict: FakePredict, records: Records) -> None:
    """An item that already waited longer than the delay behind a running batch does not wait again."""
    async with make_batcher(predict, records, max_queue_delay_seconds=0.2) as batcher:
        predict.gate.clear()
        first = asyncio.create_task(batcher.submit([0]))
        await eventually(lambda: len(predict.batches) == 1)
        second = asyncio.create_task(batcher.submit([1]))
        arrived = time.monotonic()
        await eventually(lambda: time.monotonic() > arrived + 0.25)
        predict.gate.set()
        opened = time.monotonic()
        await asyncio.gather(first, second)

    assert time.monotonic() - opened < 0.15
    assert records[-1].reason == DispatchReason.DELAY


async def test_delay_ends_when_the_batch_is_full(predict: FakePredict, records: Records) -> None:
    """With a long delay, a batch still leaves the moment it is full."""
    async with make_batcher(predict, records, max_queue_delay_seconds=60.0) as batcher:
        await asyncio.gather(*(batcher.submit([number]) for number in range(4)))

    assert [(record.size, record.reason) for record in records] == [(4, DispatchReason.FULL)]


async def test_delay_never_costs_a_caller_its_deadline(
    predict: FakePredict, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a delay longer than a caller's deadline, the batch leaves in time for that caller."""
    monkeypatch.setattr("server.batcher._TIMER_SECONDS", 0.8)  # on a busy machine timers are later than on a server
    async with make_batcher(predict, records, max_queue_delay_seconds=60.0) as batcher:
        await batcher.submit([0, 1, 2, 3])  # teaches it what an item costs
        answer = await batcher.submit([5], deadline=time.monotonic() + 1.0)

    assert list(answer.results) == [10]
    assert records[-1].reason == DispatchReason.DEADLINE


async def test_draining_ends_the_delay(predict: FakePredict, records: Records) -> None:
    """Leaving does not sit out the delay of what waits."""
    batcher = make_batcher(predict, records, max_queue_delay_seconds=60.0)
    await batcher.__aenter__()
    waiting = asyncio.create_task(batcher.submit([1]))
    await eventually(lambda: batcher.queued_items == 1)
    await batcher.__aexit__()

    assert list((await waiting).results) == [2]
    assert records[-1].reason == DispatchReason.DRAIN


async def test_full_batch_leaves_while_another_is_computed(predict: FakePredict, records: Records) -> None:
    """With two places at the engine, a full batch is handed over early; one that can still grow waits."""
    batcher: Batcher[int, int] = Batcher(
        predict,
        max_batch_size=4,
        max_queue_delay_seconds=0.0,
        max_queue_items=100,
        max_batches_under_way=2,
        observe=records.append,
    )
    async with batcher:
        predict.gate.clear()
        tasks = [asyncio.create_task(batcher.submit([number])) for number in range(1)]
        await eventually(lambda: len(predict.batches) == 1)
        tasks += [asyncio.create_task(batcher.submit([number])) for number in range(1, 7)]
        await eventually(lambda: len(predict.batches) == 2)
        waiting = batcher.queued_items
        predict.gate.set()
        await asyncio.gather(*tasks)

    assert predict.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert waiting == 2


async def submit_seven(predict: FakePredict, records: Records, *, pass_seconds: float) -> list[list[int]]:
    """Return what two lanes are given, while both are busy, of seven items that come one by one after a first one."""
    batcher: Batcher[int, int] = Batcher(
        predict,
        max_batch_size=8,
        max_queue_items=100,
        max_batches_under_way=3,
        lanes=2,
        pass_seconds=lambda _: pass_seconds,
        observe=records.append,
    )
    async with batcher:
        predict.gate.clear()
        tasks = [asyncio.create_task(batcher.submit([0]))]
        await eventually(lambda: len(predict.batches) == 1)
        tasks += [asyncio.create_task(batcher.submit([number])) for number in range(1, 8)]
        await eventually(lambda: sum(map(len, predict.batches)) + batcher.queued_items == len(tasks))
        under_way = [list(batch) for batch in predict.batches]
        predict.gate.set()
        await asyncio.gather(*tasks)
    return under_way


async def test_lanes_share_long_passes(predict: FakePredict, records: Records) -> None:
    """Where a pass is long, what waits goes to the lane that is free; where it is short, it grows instead."""
    assert await submit_seven(predict, records, pass_seconds=0.001) == [[0]]
    predict.batches.clear()
    assert await submit_seven(predict, records, pass_seconds=0.010) == [[0], [1, 2, 3, 4, 5, 6, 7]]


async def test_idle_lanes_take_equal_parts(predict: FakePredict, records: Records) -> None:
    """When both lanes are free and a pass is long, each takes half of what waits."""
    batcher: Batcher[int, int] = Batcher(
        predict,
        max_batch_size=8,
        max_queue_items=100,
        lanes=2,
        pass_seconds=lambda _: 0.010,
        observe=records.append,
    )
    async with batcher:
        await asyncio.gather(*(batcher.submit([number]) for number in range(6)))

    assert predict.batches == [[0, 1, 2], [3, 4, 5]]


async def test_cancelled_callers_make_room_at_once(predict: FakePredict, records: Records) -> None:
    """Places of callers that went away can be taken while the engine is still busy."""
    async with make_batcher(predict, records, max_queue_items=2) as batcher:
        tasks = await submit_while_busy(batcher, predict, [1], [2])
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        tasks[1] = asyncio.create_task(batcher.submit([3]))
        await eventually(lambda: batcher.queued_items == 2)
        predict.gate.set()
        answers = await asyncio.gather(*tasks)

    assert [list(answer.results) for answer in answers] == [[0], [6], [4]]
    assert predict.batches == [[0], [2, 3]]


async def test_reserved_room_is_kept(predict: FakePredict, records: Records) -> None:
    """Who reserved room is not refused later, also when the queue has filled up or drains meanwhile."""
    batcher = make_batcher(predict, records, max_queue_items=2)
    await batcher.__aenter__()
    with batcher.reserve(2) as reservation:
        with pytest.raises(Overloaded):
            await batcher.submit([9])
        leaving = asyncio.create_task(batcher.__aexit__())
        await asyncio.sleep(0)
        answer = await batcher.submit([1], reservation=reservation)
    await leaving

    assert list(answer.results) == [2]


async def test_guilty_item_fails_alone(records: Records) -> None:
    """In a batch of several callers the guilty item has an error; its neighbours, also of its caller, their results."""

    async def touchy(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise RuntimeError("secret")
        return [2 * item for item in items]

    batcher: Batcher[int, int] = Batcher(
        touchy, max_batch_size=8, max_queue_items=99, known_good=[0], observe=records.append
    )
    async with batcher:
        mixed, clean, guilty = await asyncio.gather(
            batcher.submit([1, 13, 2]), batcher.submit([3]), batcher.submit([13]), return_exceptions=True
        )

    assert not isinstance(mixed, BaseException)
    assert not isinstance(clean, BaseException)
    assert (list(mixed.results), list(mixed.failures)) == ([2, 4], [1])
    assert list(clean.results) == [6]
    assert isinstance(guilty, EngineFailed)


async def test_failures_of_a_split_request_keep_their_places(records: Records) -> None:
    """In a request of several batches, failures are told by their positions in the whole request."""

    async def touchy(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise RuntimeError("secret")
        return [2 * item for item in items]

    batcher: Batcher[int, int] = Batcher(touchy, max_batch_size=4, max_queue_items=99, observe=records.append)
    async with batcher:
        answer = await batcher.submit([13, 1, 2, 3, 4, 13, 5, 6, 7, 13])

    assert list(answer.failures) == [0, 5, 9]
    assert list(answer.results) == [2, 4, 6, 8, 10, 12, 14]


@pytest.mark.parametrize("stuck", [True, False])
async def test_broken_engine_is_told_and_nobody_waits_in_vain(
    predict: FakePredict, records: Records, *, stuck: bool
) -> None:
    """When the engine is stuck, or fails on what it could, all callers learn it, the owner too, and leaving ends."""
    reasons: list[str] = []
    batcher: Batcher[int, int] = Batcher(
        predict,
        max_batch_size=1,
        max_queue_items=99,
        max_stall_seconds=0.1,
        known_good=[0],
        observe=records.append,
        on_broken=reasons.append,
    )
    async with batcher:
        predict.gate.clear()
        waiting = [asyncio.create_task(batcher.submit([number])) for number in range(3)]
        await eventually(lambda: len(predict.batches) == 1)
        if not stuck:
            predict.failures = [RuntimeError("broken")] * 2
            predict.gate.set()
        await asyncio.wait(waiting)
        with pytest.raises(EngineLost):
            await batcher.submit([9])

    assert [type(task.exception()) for task in waiting] == [EngineLost] * 3
    assert reasons == [
        "it has finished nothing for 0.1 s" if stuck else "it fails on a picture that it has computed before"
    ]


async def test_observer_is_told_of_every_pass(predict: FakePredict, records: Records) -> None:
    """Each forward pass is told, failed or not, with its size: what is not told was not executed."""
    async with make_batcher(predict, records) as batcher:
        predict.failures = [RuntimeError("once")]
        await batcher.submit([1, 2, 3, 4])

    assert [(record.size, record.reason, record.failure) for record in records] == [
        (4, "full", "error"),
        (2, "split", ""),
        (2, "split", ""),
    ]
