"""Five times more than the server can do: it does nearly as much as it can, and says no at once to the rest."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from benchmarks import usage
from cifarserve.v1 import classifier_pb2 as pb
from tests.conftest import ROOT
from tests.reliability.conftest import Figure, Scale
from tests.reliability.load import PICTURE, Call, Tally, closed_loops, fixed_rate, predict_call
from tests.server.process import running_server

_IMAGES = 64
_OK, _REFUSED = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED


class PeakMemory:
    """The largest memory of a server and its engines while a block runs, in MiB."""

    def __init__(self, pid: int) -> None:
        self.before = usage.rss_mib(pid)
        self.peak = self.before
        self._pid = pid

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                self.peak = max(self.peak, usage.rss_mib(self._pid))
                await asyncio.sleep(0.5)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()


async def run_closed(call: Call, *, callers: int, seconds: float) -> Tally:
    async with closed_loops(call, callers=callers) as tally:
        await asyncio.sleep(seconds)
    return tally


async def test_overload_is_refused_and_the_rest_is_served(quick_repository: Path, scale: Scale, figure: Figure) -> None:
    """T6. Goodput stays near the peak, refusals are quick and carry a pushback, memory is bounded, p99 recovers."""
    times, seconds = scale.choose(short=(2, 1.5), full=(5, 60.0))
    calm_seconds = scale.choose(short=0.5, full=5.0)
    lone_seconds = scale.choose(short=0.5, full=20.0)  # some 600 calls: of fewer, one hiccup of the machine is the p99
    # One lane of the larger model: the engine is what is short, and callers and front end share the other core.
    repository = scale.choose(short=quick_repository, full=ROOT / "models/pretrained")
    flags = ("--repository", repository, "--lanes", "1", "--max-queue-items", "512", "--max-images-per-request", "64")
    async with running_server(*flags) as server, grpc.aio.insecure_channel(server.address) as channel:
        call = predict_call(channel, pb.PredictRequest(images=[PICTURE] * _IMAGES), timeout=10)
        await run_closed(call, callers=4, seconds=calm_seconds)
        peak = (await run_closed(call, callers=4, seconds=calm_seconds)).answered / calm_seconds
        before = await run_closed(call, callers=1, seconds=lone_seconds)
        memory = PeakMemory(server.process.pid)
        counted = server.metric("cifarserve_images_total", outcome="answered")
        async with memory.watched():
            tally = await fixed_rate(call, per_second=times * peak, seconds=seconds)
        counted = server.metric("cifarserve_images_total", outcome="answered") - counted
        await asyncio.sleep(scale.choose(short=0.0, full=2.0))
        after = await run_closed(call, callers=1, seconds=lone_seconds)
        assert await server.stop() == 0

    goodput = tally.answered / seconds / peak
    refused_ms = statistics.median(tally.seconds[_REFUSED]) * 1000
    recovery = after.quantile_ms(99) / before.quantile_ms(99)
    assert tally.codes.keys() == {_OK, _REFUSED}
    assert len(tally.pushbacks_ms) == tally.codes[_REFUSED]
    assert all(pushback > 0 for pushback in tally.pushbacks_ms)
    assert counted == tally.answered * _IMAGES
    assert memory.peak - memory.before < 200
    if scale.full:
        assert goodput >= 0.9
        assert refused_ms <= 5
        assert recovery <= 1.5
    figure(
        promise="bounded queue and memory, and goodput near the peak, under 5x overload",
        tested=f"{times}x the measured capacity for {seconds:.0f} s, {_IMAGES} pictures a request, one lane",
        value=f"goodput {goodput:.0%} of the peak of {peak * _IMAGES:,.0f} images/s;"
        f" {tally.codes[_REFUSED]:,} refusals, median {refused_ms:.1f} ms; accepted p99 {tally.quantile_ms(99):.0f} ms;"
        f" memory +{memory.peak - memory.before:.0f} MiB; p99 2 s later {recovery:.2f} times the one before",
    )
