"""A new version takes over under load, and no caller notices but by the number of the version."""

import asyncio
import collections
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from tests.polling import eventually
from tests.reliability.conftest import Figure, Scale
from tests.reliability.versions import MODEL, REQUEST, is_of_its_version, publish_version
from tests.server.process import running_server

_CALLERS = 8
_LOADED_WITHIN_SECONDS = 90


@dataclass
class Callers:
    """What callers saw, each going on and on.

    Attributes:
        calls: when each call began, how long it took, and the version that answered.
        foreign: replies with a result that is not what the version that they name answers.
        errors: everything else.
    """

    calls: list[tuple[float, float, int]] = field(default_factory=list)
    foreign: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def versions(self) -> collections.Counter[int]:
        """How many replies each version gave."""
        return collections.Counter(version for _, _, version in self.calls)

    def p99_ms(self, windows: list[tuple[float, float]]) -> float:
        """Return the 99th percentile of the calls that began within one of the windows."""
        seconds = [took for began, took, _ in self.calls if any(start <= began < end for start, end in windows)]
        return quantiles(seconds, n=100)[98] * 1000

    def note(self, began: float, response: pb.PredictResponse) -> None:
        """Keep what is known of one reply."""
        self.calls.append((began, time.perf_counter() - began, response.model.version))
        self.foreign += not is_of_its_version(response)


@asynccontextmanager
async def calling(channel: grpc.aio.Channel) -> AsyncIterator[Callers]:
    """Call in closed loops, one of them over a stream, for as long as the block lasts."""
    callers = Callers()
    stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
    over = asyncio.Event()

    async def by_request() -> None:
        while not over.is_set():
            began = time.perf_counter()
            try:
                callers.note(began, await stub.Predict(REQUEST, timeout=60))
            except grpc.aio.AioRpcError as exc:
                callers.errors.append(f"{exc.code().name}: {exc.details()}")

    async def by_stream() -> None:
        stream = stub.PredictStream()
        while not over.is_set():
            began = time.perf_counter()
            await stream.write(REQUEST)
            response = await stream.read()
            if isinstance(response, pb.PredictResponse) and not response.HasField("error"):
                callers.note(began, response)
            else:
                callers.errors.append(f"stream: {response}")
                return
        await stream.done_writing()

    async with asyncio.TaskGroup() as group:
        for _ in range(_CALLERS - 1):
            group.create_task(by_request())
        group.create_task(by_stream())
        try:
            yield callers
        finally:
            over.set()


@asynccontextmanager
async def watching(channel: grpc.aio.Channel) -> AsyncIterator[list[int]]:
    """Note every health status of the model that a watcher is told."""
    told: list[int] = []
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=f"model/{MODEL}"))  # type: ignore[attr-defined]  # its types name no methods

    async def listen() -> None:
        async for response in watch:
            told.append(response.status)  # noqa: PERF401  # seen while it goes on

    listening = asyncio.create_task(listen())
    try:
        await eventually(lambda: bool(told), within_seconds=30)
        yield told
    finally:
        watch.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_hot_swap_costs_callers_nothing(tmp_path: Path, scale: Scale, figure: Figure) -> None:
    """T3, T18. Versions follow each other under load: 0 errors, no mixed batch, health does not move, counts agree."""
    steady_seconds = scale.choose(short=1.0, full=20.0)
    swap_seconds = scale.choose(short=0.0, full=60.0)  # at least two swaps
    repository = tmp_path / "repository"
    publish_version(repository, 1)
    flags = ("--repository", repository, "--poll-interval-seconds", "0.2")
    async with running_server(*flags) as server, grpc.aio.insecure_channel(server.address) as channel:
        async with watching(channel) as told, calling(channel) as callers:
            await eventually(lambda: len(callers.calls) >= 100, within_seconds=60)
            started = time.perf_counter()
            await asyncio.sleep(steady_seconds)
            swapping = time.perf_counter()
            version = 1
            while version < 3 or time.perf_counter() < swapping + swap_seconds:
                version += 1
                publish_version(repository, version)
                await eventually(lambda: callers.calls[-1][2] == version, within_seconds=_LOADED_WITHIN_SECONDS)  # noqa: B023  # asked at once
            ended = time.perf_counter()
        answered = callers.versions
        counted = {
            number: server.metric("cifarserve_images_total", version=str(number), outcome="answered")
            for number in answered
        }
        swaps = server.metric("cifarserve_model_swaps_total", model=MODEL)

    assert callers.errors == []
    assert callers.foreign == 0
    assert told == [health_pb2.HealthCheckResponse.SERVING]
    assert sorted(answered) == list(range(1, version + 1))
    assert counted == {number: count * len(REQUEST.images) for number, count in answered.items()}
    assert swaps == version - 1
    steady, swapping_ms = callers.p99_ms([(started, swapping)]), callers.p99_ms([(swapping, ended)])
    if scale.full:
        assert swapping_ms / steady <= 2
    figure(
        promise="0 errors across a hot swap, and p99 at most twice that without one",
        tested=f"{version - 1} versions published one after the other under {_CALLERS} closed-loop callers,"
        " one on a stream; every probability compared with its version's own",
        value=f"0 errors and 0 mixed batches in {answered.total():,} replies; health never moved;"
        f" p99 {steady:.1f} ms steady, {swapping_ms:.1f} ms while swapping: {swapping_ms / steady:.2f} times",
    )
