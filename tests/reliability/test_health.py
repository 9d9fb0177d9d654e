"""Health tells the truth, in time."""

import signal
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.reliability.conftest import Figure
from tests.reliability.load import ONE_PICTURE, Tally, answers, closed_loops, predict_call, soon
from tests.server.process import running_server

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_DELAY_SECONDS = 0.5


async def test_health_tells_the_truth(quick_repository: Path, figure: Figure) -> None:
    """T18. NOT_SERVING until the model is warm and from SIGTERM on; work is refused before, and only later again."""
    flags = ("--repository", quick_repository, "--drain-delay-seconds", str(_DELAY_SECONDS))
    async with (
        running_server(*flags, wait_until="listening") as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))  # type: ignore[attr-defined]
        call = predict_call(channel, ONE_PICTURE)
        loading = Tally()
        assert (await watch.read()).status == _NOT_SERVING
        await loading.count(call)
        assert (await watch.read()).status == _SERVING
        async with closed_loops(call, callers=8, until_failure=True) as tally:
            await answers(tally, 50)
            server.process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == _NOT_SERVING
            told = time.monotonic()
            refused_before = tally.failed
            await soon(lambda: tally.failed > 0)
            margin = time.monotonic() - told
        assert await server.wait() == 0

    assert loading.codes == {grpc.StatusCode.UNAVAILABLE: 1}
    assert refused_before == 0
    assert margin > _DELAY_SECONDS / 2
    figure(
        promise="health says NOT_SERVING before any work is refused",
        tested=f"SIGTERM under load with a drain delay of {_DELAY_SECONDS} s, health watched on the same server",
        value=f"the first refusal came {margin:.2f} s after Watch said NOT_SERVING",
    )
