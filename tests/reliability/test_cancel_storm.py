"""Callers that leave at random hurt nobody who stays."""

import asyncio
import random

import grpc
import pytest

from benchmarks import usage
from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from tests.reliability.conftest import Figure, Scale, SharedServer
from tests.reliability.load import soon

_IN_FLIGHT = 64
_SHADES = range(0, 250, 25)


def request(shade: int) -> pb.PredictRequest:
    return pb.PredictRequest(images=[pb.Image(rgb=bytes([shade]) * 3072)])


def best(response: pb.PredictResponse) -> tuple[int, float]:
    [prediction] = response.results[0].predictions
    return prediction.index, prediction.probability


class Storm:
    """Callers, half of whose calls are cancelled at a random moment; counts both kinds."""

    def __init__(
        self, stub: "classifier_pb2_grpc.ClassifierServiceAsyncStub", solo: dict[int, tuple[int, float]]
    ) -> None:
        self.cancelled = 0
        self.answered = 0
        self._stub = stub
        self._solo = solo

    async def caller(self, calls: int) -> None:
        for _ in range(calls):
            shade = random.choice(_SHADES)
            call = self._stub.Predict(request(shade))
            if random.random() < 0.5:
                asyncio.get_running_loop().call_later(random.uniform(0, 0.03), call.cancel)
            try:
                index, probability = best(await call)
            except asyncio.CancelledError:
                self.cancelled += 1
                continue
            assert index == self._solo[shade][0]
            assert probability == pytest.approx(self._solo[shade][1], abs=0.02)  # bf16
            self.answered += 1


async def test_cancel_storm_hurts_nobody_who_stays(server: SharedServer, scale: Scale, figure: Figure) -> None:
    """T8. Half of the calls are cancelled at random: the others get their own answers, nothing is left behind."""
    calls = scale.choose(short=1_000, full=20_000) // _IN_FLIGHT
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
        storm = Storm(stub, {shade: best(await stub.Predict(request(shade))) for shade in _SHADES})
        # The first calls fill pools and caches, above all those of the engine's lanes.
        await asyncio.gather(*(storm.caller(scale.choose(short=8, full=240)) for _ in range(_IN_FLIGHT)))
        before = usage.rss_mib(server.pid)
        await asyncio.gather(*(storm.caller(calls) for _ in range(_IN_FLIGHT)))
        await soon(lambda: server.metric("cifarserve_rpcs_inside") == 0)
        growth = usage.rss_mib(server.pid) - before
        alive = best(await stub.Predict(request(25)))

    assert alive[0] == storm._solo[25][0]
    assert server.metric("cifarserve_queue_items") == 0
    assert storm.cancelled > 0
    assert growth < scale.choose(short=60, full=20)
    figure(
        promise="callers that leave hurt nobody who stays",
        tested=f"{calls * _IN_FLIGHT:,} calls, half of them cancelled after 0 to 30 ms",
        value=f"{storm.cancelled:,} cancelled, {storm.answered:,} answered rightly; memory {growth:+.0f} MiB",
    )
