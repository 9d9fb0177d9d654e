"""Nothing is computed for a caller that has given up."""

import asyncio
import os
import signal
from pathlib import Path

import grpc

from cifarserve.v1 import classifier_pb2_grpc
from tests.reliability.conftest import Figure
from tests.reliability.load import ONE_PICTURE, Tally, predict_call, soon
from tests.server.process import ServerProcess, engines_of, running_server

_EACH = 50


async def test_work_that_nobody_waits_for_is_never_executed(quick_repository: Path, figure: Figure) -> None:
    """T9, T8. Calls that expire or are cancelled in the queue are not executed, by the server's own count."""
    # With one lane, what comes behind a batch stays in the queue.
    async with running_server("--repository", quick_repository, "--lanes", "1") as server:
        await _expire_and_cancel(server, figure)


async def _expire_and_cancel(server: ServerProcess, figure: Figure) -> None:
    executed = server.metric("cifarserve_executed_images_total")
    expired, waiting = Tally(), Tally()
    engine = engines_of(server.process.pid)[-1]
    async with grpc.aio.insecure_channel(server.address) as channel, asyncio.TaskGroup() as group:
        os.kill(engine, signal.SIGSTOP)
        try:
            patient = predict_call(channel, ONE_PICTURE)
            group.create_task(waiting.count(patient))
            await soon(lambda: server.metric("cifarserve_rpcs_inside") == 1)
            await soon(lambda: server.metric("cifarserve_queue_items") == 0)
            stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
            leaving = [stub.Predict(ONE_PICTURE) for _ in range(_EACH)]
            await soon(lambda: server.metric("cifarserve_queue_items") == _EACH)
            for call in leaving:
                call.cancel()
            hasty = predict_call(channel, ONE_PICTURE, timeout=0.5)
            await asyncio.gather(*(expired.count(hasty) for _ in range(_EACH)))
            await soon(lambda: server.metric("cifarserve_rpcs_inside") == 1)
            left_in_queue = server.metric("cifarserve_queue_items")
        finally:
            os.kill(engine, signal.SIGCONT)
    executed = server.metric("cifarserve_executed_images_total") - executed

    assert expired.codes == {grpc.StatusCode.DEADLINE_EXCEEDED: _EACH}
    assert waiting.answered == 1
    assert left_in_queue == 0
    assert executed == 1
    figure(
        promise="work whose deadline passed, or whose caller left, is never executed",
        tested=f"{_EACH} calls expire and {_EACH} are cancelled behind an engine that is held",
        value=f"{executed - 1:.0f} of {2 * _EACH} executed, by the server's counter",
    )
