"""Callers for the reliability tests: closed loops and a fixed rate, with every outcome counted."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from statistics import quantiles

import grpc

from cifarserve.v1 import classifier_pb2 as pb
from tests.polling import eventually

PREDICT = "/cifarserve.v1.ClassifierService/Predict"
PICTURE = pb.Image(rgb=bytes(range(256)) * 12)
ONE_PICTURE = pb.PredictRequest(images=[PICTURE])

Call = Callable[[], Awaitable[object]]

# Everything here waits for other processes, which a busy machine holds up.
soon = functools.partial(eventually, within_seconds=60)


@dataclass
class Tally:
    """What callers saw.

    Attributes:
        codes: how many calls ended with each status.
        seconds: how long each call took, by status.
        details: how often each text came with a failure.
        pushbacks_ms: every `grpc-retry-pushback-ms` that came.
    """

    codes: collections.Counter[grpc.StatusCode] = field(default_factory=collections.Counter)
    seconds: dict[grpc.StatusCode, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    details: collections.Counter[str] = field(default_factory=collections.Counter)
    pushbacks_ms: list[int] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Calls that were answered with OK."""
        return self.codes[grpc.StatusCode.OK]

    @property
    def failed(self) -> int:
        """Calls that ended otherwise."""
        return self.codes.total() - self.answered

    def quantile_ms(self, percent: int, code: grpc.StatusCode = grpc.StatusCode.OK) -> float:
        """Return a percentile, 1 to 99, of the time that calls with this status took."""
        return quantiles(self.seconds[code], n=100)[percent - 1] * 1000

    async def count(self, call: Call) -> grpc.StatusCode:
        """Make one call and count how it ended."""
        started = time.perf_counter()
        try:
            await call()
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as exc:
            code = exc.code()
            self.details[exc.details() or ""] += 1
            self.pushbacks_ms += [
                int(value) for key, value in exc.trailing_metadata() or () if key == "grpc-retry-pushback-ms"
            ]
        self.codes[code] += 1
        self.seconds[code].append(time.perf_counter() - started)
        return code


def predict_call(channel: grpc.aio.Channel, request: pb.PredictRequest, *, timeout: float | None = 60) -> Call:
    """Return a call that sends `request`, which is serialized once, and looks at no answer."""
    body = request.SerializeToString()
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)

    async def call() -> object:
        return await method(body, timeout=timeout)

    return call


@contextlib.asynccontextmanager
async def closed_loops(call: Call, *, callers: int, until_failure: bool = False) -> AsyncIterator[Tally]:
    """Let each caller call again and again, and finish its last call when the block ends.

    Args:
        call: makes one call.
        callers: how many.
        until_failure: a caller also ends with its first failure.
    """
    tally = Tally()
    over = asyncio.Event()

    async def caller() -> None:
        while not over.is_set():
            code = await tally.count(call)
            if until_failure and code is not grpc.StatusCode.OK:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
        try:
            yield tally
        finally:
            over.set()


async def fixed_rate(call: Call, *, per_second: float, seconds: float) -> Tally:
    """Begin `per_second` calls a second, however the earlier ones fare; return when all have ended."""
    tally = Tally()
    started = time.perf_counter()
    begun = 0
    async with asyncio.TaskGroup() as group:
        while (now := time.perf_counter() - started) < seconds:
            while begun < now * per_second:
                group.create_task(tally.count(call))
                begun += 1
            await asyncio.sleep(0.001)
    return tally


async def answers(tally: Tally, count: int) -> None:
    """Return when `count` calls have been answered."""
    await soon(lambda: tally.answered >= count)
