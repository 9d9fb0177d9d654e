"""An engine's process that is killed costs the batch that it computed, and nothing else."""

import asyncio
import os
import signal
import time
from pathlib import Path

import grpc

from client import ClassifierClient, RawRgb
from tests.reliability.conftest import Figure, Scale
from tests.reliability.load import ONE_PICTURE, answers, closed_loops, predict_call
from tests.server.process import engines_of, running_server

_CALLERS = 32
_LARGEST_BATCH = 4
_BATCHES_UNDER_WAY = 3  # with two lanes


async def test_killed_engine_is_back(quick_repository: Path, scale: Scale, figure: Figure) -> None:
    """T14. kill -9 under load: only what was being computed fails, with UNAVAILABLE, and the engine is back in 2 s."""
    kills = scale.choose(short=2, full=3)
    flags = ("--repository", quick_repository, "--max-batch-size", str(_LARGEST_BATCH), "--lanes", "2")
    pauses = []
    async with running_server(*flags) as server, grpc.aio.insecure_channel(server.address) as channel:
        async with closed_loops(predict_call(channel, ONE_PICTURE), callers=_CALLERS) as tally:
            for kill in range(1, kills + 1):
                await answers(tally, 200 * kill)
                os.kill(engines_of(server.process.pid)[-1], signal.SIGKILL)
                killed = time.monotonic()
                await server.read_log("engine restarted")
                await answers(tally, tally.answered + 1)
                pauses.append(time.monotonic() - killed)
        restarts = server.metric("cifarserve_engine_restarts_total")
        assert await server.stop() == 0

    assert restarts == kills
    assert tally.codes.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert tally.failed <= kills * _LARGEST_BATCH * _BATCHES_UNDER_WAY
    assert set(tally.details) <= {
        "the engine's process died while it computed; try again",
        "the engine's process is gone; try again",
    }
    if scale.full:
        assert max(pauses) <= 2
    figure(
        promise="a killed engine costs only the batches that it computed, and is back within 2 s",
        tested=f"{kills} times kill -9 of the engine's process under {_CALLERS} closed-loop callers",
        value=f"{tally.failed} of {tally.codes.total():,} calls failed, all UNAVAILABLE;"
        f" answers again after at most {max(pauses):.2f} s",
    )


async def test_retrying_client_does_not_notice(quick_repository: Path) -> None:
    """T14. The shipped client tries again: an engine that is killed costs its callers time, and no error."""
    async with (
        running_server("--repository", quick_repository) as server,
        ClassifierClient(server.address, timeout_seconds=30) as client,
    ):

        async def caller() -> int:
            for _ in range(40):
                await client.predict([RawRgb(bytes(3072))])
            return 40

        callers = [asyncio.create_task(caller()) for _ in range(8)]
        os.kill(engines_of(server.process.pid)[-1], signal.SIGKILL)
        answered = sum(await asyncio.gather(*callers))

    assert answered == 320
