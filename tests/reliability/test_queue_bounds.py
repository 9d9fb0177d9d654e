"""The queue takes exactly what it promises, in items and in bytes, and says when to come back."""

import asyncio
import os
import signal
from pathlib import Path

import grpc

from cifarserve.v1 import classifier_pb2 as pb
from client import ClassifierClient, RawRgb
from tests.polling import eventually
from tests.reliability.conftest import Figure
from tests.reliability.load import ONE_PICTURE, PICTURE, Tally, predict_call
from tests.server.process import ServerProcess, engines_of, running_server

_PLACES = 40
_TOO_MANY = 25


async def _hold(server: ServerProcess, tally: Tally, call: grpc.aio.Channel, group: asyncio.TaskGroup) -> None:
    """Stop the engine in the middle of a batch of one, so that all that comes later has to wait."""
    os.kill(engines_of(server.process.pid)[-1], signal.SIGSTOP)
    group.create_task(tally.count(predict_call(call, ONE_PICTURE)))
    await eventually(lambda: server.metric("cifarserve_rpcs_inside") == 1)
    await eventually(lambda: server.metric("cifarserve_queue_items") == 0)


async def test_queue_takes_exactly_its_bound(quick_repository: Path, figure: Figure) -> None:
    """T7. With N places and an engine that is held, N pictures wait and every further one is refused at once."""
    flags = ("--repository", quick_repository, "--max-queue-items", str(_PLACES), "--max-images-per-request", "8")
    tally = Tally()
    async with running_server(*flags) as server, grpc.aio.insecure_channel(server.address) as channel:
        async with asyncio.TaskGroup() as group:
            await _hold(server, tally, channel, group)
            call = predict_call(channel, ONE_PICTURE)
            for _ in range(_PLACES + _TOO_MANY):
                group.create_task(tally.count(call))
            await eventually(lambda: tally.failed == _TOO_MANY)
            waiting = server.metric("cifarserve_queue_items")
            os.kill(engines_of(server.process.pid)[-1], signal.SIGCONT)
        refused = server.metric("cifarserve_requests_total", code="RESOURCE_EXHAUSTED")
        assert await server.stop() == 0

    assert waiting == _PLACES
    assert tally.codes == {grpc.StatusCode.OK: _PLACES + 1, grpc.StatusCode.RESOURCE_EXHAUSTED: _TOO_MANY}
    assert refused == _TOO_MANY
    assert len(tally.pushbacks_ms) == _TOO_MANY
    figure(
        promise="the queue takes exactly its bound",
        tested=f"{_PLACES} places, an engine that is held, {_PLACES + _TOO_MANY} pictures",
        value=f"{_PLACES} answered, {_TOO_MANY} refused with RESOURCE_EXHAUSTED and a pushback",
    )


async def test_bytes_are_bounded_too(quick_repository: Path) -> None:
    """T6. Requests are refused when the pictures of those inside would exceed --max-queue-mib."""
    big = pb.PredictRequest(images=[pb.Image(encoded=b"\xff\xd8" + bytes(300_000)), PICTURE])
    flags = ("--repository", quick_repository, "--max-queue-mib", "1", "--max-message-bytes", "1000000")
    tally = Tally()
    async with running_server(*flags) as server, grpc.aio.insecure_channel(server.address) as channel:
        async with asyncio.TaskGroup() as group:
            await _hold(server, tally, channel, group)
            call = predict_call(channel, big)
            for _ in range(5):
                group.create_task(tally.count(call))
            await eventually(lambda: tally.failed == 2)
            os.kill(engines_of(server.process.pid)[-1], signal.SIGCONT)
        again = await tally.count(predict_call(channel, big))

    assert tally.codes == {grpc.StatusCode.OK: 5, grpc.StatusCode.RESOURCE_EXHAUSTED: 2}
    assert again is grpc.StatusCode.OK


async def test_client_comes_back_as_it_was_told(quick_repository: Path) -> None:
    """T6. The shipped client, refused by a full queue, waits as long as the server says and is answered."""
    flags = ("--repository", quick_repository, "--max-queue-items", "1", "--max-images-per-request", "1")
    async with (
        running_server(*flags) as server,
        ClassifierClient(server.address, timeout_seconds=20) as client,
        grpc.aio.insecure_channel(server.address) as channel,
        asyncio.TaskGroup() as group,
    ):
        tally = Tally()
        await _hold(server, tally, channel, group)
        group.create_task(tally.count(predict_call(channel, ONE_PICTURE)))
        await eventually(lambda: server.metric("cifarserve_queue_items") == 1)
        answer = asyncio.create_task(client.predict([RawRgb(bytes(3072))]))
        await eventually(lambda: server.metric("cifarserve_requests_total", code="RESOURCE_EXHAUSTED") == 1)
        os.kill(engines_of(server.process.pid)[-1], signal.SIGCONT)

        assert len((await answer).results) == 1
