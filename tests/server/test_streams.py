import asyncio
from collections.abc import AsyncIterator

import pytest

from server.errors import Draining, InvalidArgument
from server.streams import Streams
from tests.polling import eventually


class Door:
    """Answers a number with itself as soon as it is let through.

    Attributes:
        begun: the numbers that were begun, in order.
        written: the answers, in the order in which they were written.
        gates: a number is answered when its event is set.
    """

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.written: list[int] = []
        self.gates = [asyncio.Event() for _ in range(300)]

    async def respond(self, number: int) -> int:
        self.begun.append(number)
        await self.gates[number].wait()
        if number == 13:
            raise InvalidArgument("thirteen")
        return number

    async def write(self, number: int) -> None:
        self.written.append(number)

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.gates[number].set()


@pytest.fixture
def door() -> Door:
    return Door()


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def endless(*first: int) -> AsyncIterator[int]:
    for number in first:
        yield number
    await asyncio.Event().wait()


@pytest.mark.parametrize(("in_order", "expected"), [(True, [0, 1, 2]), (False, [2, 1, 0])])
async def test_answers_come_in_the_order_that_is_wanted(door: Door, *, in_order: bool, expected: list[int]) -> None:
    """In order, an answer waits for those before it; otherwise it is written when it is finished."""
    streaming = asyncio.create_task(Streams().answer(numbers(3), door.respond, door.write, in_order=in_order))
    await eventually(lambda: len(door.begun) == 3)
    for number in (2, 1, 0):
        door.open(number)
        for _ in range(10):
            await asyncio.sleep(0)
    await streaming

    assert door.written == expected


async def test_a_bounded_number_is_worked_on(door: Door) -> None:
    """Reading waits while 256 requests are unanswered."""
    streaming = asyncio.create_task(Streams().answer(numbers(300), door.respond, door.write, in_order=True))
    await eventually(lambda: len(door.begun) == 256)
    for _ in range(10):
        await asyncio.sleep(0)
    begun = len(door.begun)
    door.open(*(number for number in range(300) if number != 13))
    door.gates[13].set()
    with pytest.raises(InvalidArgument):
        await streaming

    assert begun == 256


async def test_failure_in_order_comes_after_the_answers_before_it(door: Door) -> None:
    """A failure ends the stream when what came before is answered; what came after is not."""
    streaming = asyncio.create_task(Streams().answer(endless(12, 13, 14), door.respond, door.write, in_order=True))
    await eventually(lambda: len(door.begun) == 3)
    door.open(13, 14)
    for _ in range(10):
        await asyncio.sleep(0)
    pending = not streaming.done()
    door.open(12)
    with pytest.raises(InvalidArgument, match="thirteen"):
        await streaming

    assert pending
    assert door.written == [12]


async def test_drain_answers_what_was_accepted(door: Door) -> None:
    """A drain stops reading, and ends the stream when everything that was read is answered."""
    streams = Streams()
    streaming = asyncio.create_task(streams.answer(endless(0, 1), door.respond, door.write, in_order=True))
    await eventually(lambda: len(door.begun) == 2)
    streams.drain()
    for _ in range(10):
        await asyncio.sleep(0)
    door.open(0, 1)
    with pytest.raises(Draining):
        await streaming

    assert door.written == [0, 1]


async def test_unreadable_request_ends_the_stream_after_the_answers(door: Door) -> None:
    """What the caller sent before the bytes that are no message is answered."""

    async def broken() -> AsyncIterator[int]:
        yield 0
        yield 1
        raise InvalidArgument("no message")

    streaming = asyncio.create_task(Streams().answer(broken(), door.respond, door.write, in_order=False))
    await eventually(lambda: len(door.begun) == 2)
    door.open(0, 1)
    with pytest.raises(InvalidArgument, match="no message"):
        await streaming

    assert sorted(door.written) == [0, 1]


async def test_caller_that_leaves_takes_its_requests_along(door: Door) -> None:
    """When the call is cancelled, nothing of it goes on."""
    before = asyncio.all_tasks()
    streaming = asyncio.create_task(Streams().answer(endless(0, 1), door.respond, door.write, in_order=True))
    await eventually(lambda: len(door.begun) == 2)
    streaming.cancel()
    await asyncio.wait({streaming})

    assert asyncio.all_tasks() == before
    assert door.written == []
