import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest

from client import (
    Answer,
    ClassifierClient,
    ClientError,
    DeadlineExceeded,
    Image,
    InvalidRequest,
    ServerFailed,
    ServerUnavailable,
)
from client.streaming import MAX_UNANSWERED
from tests.client import fake_server
from tests.client.fake_server import Failure, FakeServer
from tests.polling import eventually


async def test_stream_answers_are_matched_by_position(client: ClassifierClient) -> None:
    """Answers that overtake each other say which list they belong to."""
    answers = [pair async for pair in client.predict_stream(_each([b"cat"], [b"dog"], [b"ship"]))]

    assert [position for position, _ in answers] == [1, 0, 2]
    assert {position: _best_label(answer) for position, answer in answers} == {0: "cat", 1: "dog", 2: "ship"}


async def test_a_bad_list_leaves_the_stream_alone(client: ClassifierClient) -> None:
    """A list that fails as a whole has an error in place of an answer, and the stream goes on."""
    answers = dict([pair async for pair in client.predict_stream(_each([b"cat"], [], [b"ship"]))])

    assert isinstance(answers[1], InvalidRequest)
    assert str(answers[1]) == "expected 1 to 64 images, got 0"
    assert (_best_label(answers[0]), _best_label(answers[2])) == ("cat", "ship")


async def test_an_endless_stream_is_read_only_so_far_ahead(client: ClassifierClient, server: FakeServer) -> None:
    """A source that never ends does not pile up at a server that is slow, and can be left at any time."""
    server.classifier.gate.clear()
    taken = 0

    async def counted() -> AsyncIterator[Sequence[Image]]:
        nonlocal taken
        async for request in _forever():
            taken += 1
            yield request

    answers = client.predict_stream(counted())
    first = asyncio.create_task(anext(answers))
    await eventually(lambda: taken == MAX_UNANSWERED + 1)  # the last one waits for room
    server.classifier.gate.set()
    await first
    await answers.aclose()

    assert taken <= MAX_UNANSWERED + 2


async def test_a_server_that_goes_away_between_two_lists() -> None:
    """A stream that ended while no answer was due says so at the next list."""
    gone = asyncio.Event()

    async def pausing() -> AsyncIterator[Sequence[Image]]:
        yield [b"cat"]
        yield [b"dog"]
        await gone.wait()
        yield [b"ship"]

    async with contextlib.AsyncExitStack() as serving:
        server = await serving.enter_async_context(fake_server.running())
        async with ClassifierClient(server.target) as client:
            answers = client.predict_stream(pausing())
            await anext(answers)
            await anext(answers)
            await serving.aclose()
            await asyncio.sleep(0.3)
            gone.set()
            with pytest.raises(ServerUnavailable, match=server.target):
                await anext(answers)


async def test_stream_raises_what_the_source_raises(client: ClassifierClient) -> None:
    """A source that breaks loses no answer to what it gave before."""

    async def breaking() -> AsyncIterator[Sequence[Image]]:
        yield [b"cat"]
        yield [b"dog"]
        raise OSError("camera unplugged")

    answers = client.predict_stream(breaking())

    assert {(await anext(answers))[0], (await anext(answers))[0]} == {0, 1}
    with pytest.raises(OSError, match="camera unplugged"):
        await anext(answers)


async def test_a_stream_that_breaks_says_why(client: ClassifierClient, server: FakeServer) -> None:
    """When the server ends the stream with a status, the caller gets the error of that status."""
    server.classifier.failures.append(Failure(grpc.StatusCode.INTERNAL, "out of luck"))

    with pytest.raises(ServerFailed, match=f"server at {server.target} failed: out of luck"):
        await anext(client.predict_stream(_each([b"dog"])))


async def test_a_stream_that_breaks_while_it_is_written_to(client: ClassifierClient, server: FakeServer) -> None:
    """A server that stops ends a stream with the same error, whether or not gRPC still knows the reason."""
    server.classifier.failures.append(Failure(grpc.StatusCode.UNAVAILABLE, "the server is draining", pushback_ms=-1))

    with pytest.raises(ServerUnavailable, match=r"is unavailable: (the server is draining|it ended the stream)"):
        await anext(client.predict_stream(_forever()))


async def test_a_stream_to_nobody() -> None:
    """A server that is down fails a stream as it fails a call."""
    with fake_server.nobody_listens() as target:
        async with ClassifierClient(target) as client:
            with pytest.raises(ServerUnavailable, match="connection refused"):
                await anext(client.predict_stream(_forever()))


async def test_a_silent_stream_ends(server: FakeServer) -> None:
    """An answer that is due and does not come ends the stream after `timeout_seconds`."""
    server.classifier.gate.clear()

    async with ClassifierClient(server.target, timeout_seconds=0.05) as client:
        with pytest.raises(DeadlineExceeded, match="no answer from"):
            await anext(client.predict_stream(_forever()))


async def test_a_slow_source_is_waited_for(server: FakeServer) -> None:
    """A stream may be silent longer than `timeout_seconds` while no answer is due."""
    resumed = asyncio.Event()

    async def slow() -> AsyncIterator[Sequence[Image]]:
        yield [b"cat"]
        yield [b"dog"]
        await resumed.wait()
        yield [b"ship"]

    async with ClassifierClient(server.target, timeout_seconds=0.2) as client:
        answers = client.predict_stream(slow())
        await anext(answers)
        await anext(answers)
        asyncio.get_running_loop().call_later(0.3, resumed.set)
        _, answer = await anext(answers)

    assert _best_label(answer) == "ship"


async def _each(*requests: Sequence[Image]) -> AsyncIterator[Sequence[Image]]:
    for request in requests:
        yield request


async def _forever() -> AsyncIterator[Sequence[Image]]:
    while True:
        yield [b"dog"]


def _best_label(answer: Answer | ClientError) -> str:
    assert isinstance(answer, Answer)
    return answer.results[0].predictions[0].label
