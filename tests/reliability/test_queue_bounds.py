"""The queue takes exactly what it promises, in items and in bytes, and says when to come back."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from benchmarks.running import running_server
from cifarserve.v1 import classifier_pb2 as pb
from client import ClassifierClient, RawRgb
from tests.reliability.conftest import Figure, SharedServer
from tests.reliability.load import ONE_PICTURE, PICTURE, Tally, predict_call, soon
from tests.server.process import engines_of

_PLACES = 40
_FLAGS = (
    *("--max-queue-items", str(_PLACES), "--max-images-per-request", "8"),
    *("--max-queue-mib", "1", "--max-message-bytes", "1000000"),
    *("--lanes", "1"),  # what comes behind a batch then stays in the queue
)
_TOO_MANY = 25


@pytest.fixture(scope="module")
def small_queue(quick_repository: Path) -> Iterator[SharedServer]:
    with running_server("--repository", str(quick_repository), *_FLAGS) as running:
        yield SharedServer(running.address, running.process.pid, running.metrics_url)


async def _hold(server: SharedServer, tally: Tally, call: grpc.aio.Channel, group: asyncio.TaskGroup) -> None:
    """Stop the engine in the middle of a batch of one, so that all that comes later has to wait."""
    os.kill(engines_of(server.pid)[-1], signal.SIGSTOP)
    group.create_task(tally.count(predict_call(call, ONE_PICTURE)))
    await soon(lambda: server.metric("cifarserve_rpcs_inside") == 1)
    await soon(lambda: server.metric("cifarserve_queue_items") == 0)


async def test_queue_takes_exactly_its_bound(small_queue: SharedServer, figure: Figure) -> None:
    """T7. With N places and an engine that is held, N pictures wait and every further one is refused at once."""
    server = small_queue
    tally = Tally()
    refused = server.metric("cifarserve_requests_total", code="RESOURCE_EXHAUSTED")
    async with grpc.aio.insecure_channel(server.address) as channel, asyncio.TaskGroup() as group:
        await _hold(server, tally, channel, group)
        call = predict_call(channel, ONE_PICTURE)
        for _ in range(_PLACES + _TOO_MANY):
            group.create_task(tally.count(call))
        await soon(lambda: tally.failed == _TOO_MANY)
        waiting = server.metric("cifarserve_queue_items")
        os.kill(engines_of(server.pid)[-1], signal.SIGCONT)
    refused = server.metric("cifarserve_requests_total", code="RESOURCE_EXHAUSTED") - refused

    assert waiting == _PLACES
    assert tally.codes == {grpc.StatusCode.OK: _PLACES + 1, grpc.StatusCode.RESOURCE_EXHAUSTED: _TOO_MANY}
    assert refused == _TOO_MANY
    assert len(tally.pushbacks_ms) == _TOO_MANY
    figure(
        promise="the queue takes exactly its bound",
        tested=f"{_PLACES} places, an engine that is held, {_PLACES + _TOO_MANY} pictures",
        value=f"{_PLACES} answered, {_TOO_MANY} refused with RESOURCE_EXHAUSTED and a pushback",
    )


async def test_bytes_are_bounded_too(small_queue: SharedServer) -> None:
    """T6. Requests are refused when the pictures of those inside would exceed --max-queue-mib."""
    big = pb.PredictRequest(images=[pb.Image(encoded=b"\xff\xd8" + bytes(300_000)), PICTURE])
    server = small_queue
    tally = Tally()
    async with grpc.aio.insecure_channel(server.address) as channel:
        async with asyncio.TaskGroup() as group:
            await _hold(server, tally, channel, group)
            call = predict_call(channel, big)
            for _ in range(5):
                group.create_task(tally.count(call))
            await soon(lambda: tally.failed == 2)
            os.kill(engines_of(server.pid)[-1], signal.SIGCONT)
        again = await tally.count(predict_call(channel, big))

    assert tally.codes == {grpc.StatusCode.OK: 5, grpc.StatusCode.RESOURCE_EXHAUSTED: 2}
    assert again is grpc.StatusCode.OK


async def test_client_comes_back_as_it_was_told(small_queue: SharedServer) -> None:
    """T6. The shipped client, refused by a full queue, waits as long as the server says and is answered."""
    server = small_queue
    async with (
        ClassifierClient(server.address, timeout_seconds=20) as client,
        grpc.aio.insecure_channel(server.address) as channel,
        asyncio.TaskGroup() as group,
    ):
        tally = Tally()
        refused = server.metric("cifarserve_requests_total", code="RESOURCE_EXHAUSTED")
        await _hold(server, tally, channel, group)
        for _ in range(_PLACES):
            group.create_task(tally.count(predict_call(channel, ONE_PICTURE)))
        await soon(lambda: server.metric("cifarserve_queue_items") == _PLACES)
        answer = asyncio.create_task(client.predict([RawRgb(bytes(3072))]))
        await soon(lambda: server.metric("cifarserve_requests_total", code="RESOURCE_EXHAUSTED") > refused)
        os.kill(engines_of(server.pid)[-1], signal.SIGCONT)

        assert len((await answer).results) == 1
