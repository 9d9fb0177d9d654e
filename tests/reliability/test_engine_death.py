"""An engine's process that is killed costs the batch that it computed, and nothing else."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from benchmarks.running import running_server
from client import ClassifierClient, RawRgb
from tests.reliability.conftest import Figure, Scale, SharedServer
from tests.reliability.load import ONE_PICTURE, answers, closed_loops, predict_call, soon
from tests.server.process import engines_of

_CALLERS = 32
_KILLS = 2
_LARGEST_BATCH = 4
_BATCHES_UNDER_WAY = 3  # with two lanes


@pytest.fixture(scope="module")
def small_batches(quick_repository: Path) -> Iterator[SharedServer]:
    flags = ("--repository", str(quick_repository), "--max-batch-size", str(_LARGEST_BATCH), "--lanes", "2")
    with running_server(*flags) as running:
        yield SharedServer(running.address, running.process.pid, running.metrics_url)


async def test_killed_engine_is_back(small_batches: SharedServer, scale: Scale, figure: Figure) -> None:
    """T14. kill -9 under load: only what was being computed fails, with UNAVAILABLE, and the engine is back in 2 s."""
    server = small_batches
    pauses = []
    async with (
        grpc.aio.insecure_channel(server.address) as channel,
        closed_loops(predict_call(channel, ONE_PICTURE), callers=_CALLERS) as tally,
    ):
        for kill in range(1, _KILLS + 1):
            await answers(tally, 200 * kill)
            os.kill(engines_of(server.pid)[-1], signal.SIGKILL)
            killed = time.monotonic()
            await soon(
                lambda kill=kill: server.metric("cifarserve_engine_restarts_total") == kill,  # type: ignore[misc]
                within_seconds=30,
            )
            await answers(tally, tally.answered + _CALLERS)
            pauses.append(time.monotonic() - killed)

    assert tally.codes.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert tally.failed <= _KILLS * _LARGEST_BATCH * _BATCHES_UNDER_WAY
    assert set(tally.details) <= {
        "the engine's process died while it computed; try again",
        "the engine's process is gone; try again",
    }
    if scale.full:
        assert max(pauses) <= 2
    figure(
        promise="a killed engine costs only the batches that it computed, and is back within 2 s",
        tested=f"{_KILLS} times kill -9 of the engine's process under {_CALLERS} closed-loop callers",
        value=f"{tally.failed} of {tally.codes.total():,} calls failed, all UNAVAILABLE;"
        f" answers again after at most {max(pauses):.2f} s",
    )


async def test_retrying_client_does_not_notice(small_batches: SharedServer) -> None:
    """T14. The shipped client tries again: an engine that is killed costs its callers time, and no error."""
    server = small_batches
    async with ClassifierClient(server.address, timeout_seconds=30) as client:

        async def caller() -> int:
            for _ in range(40):
                await client.predict([RawRgb(bytes(3072))])
            return 40

        callers = [asyncio.create_task(caller()) for _ in range(8)]
        os.kill(engines_of(server.pid)[-1], signal.SIGKILL)
        answered = sum(await asyncio.gather(*callers))

    assert answered == 320
