"""Minutes of steady load: no error, no growth, no drift."""

import asyncio
import io
import itertools
import time
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from PIL import Image

from benchmarks import usage
from cifarserve.v1 import classifier_pb2 as pb
from tests.reliability.conftest import Figure, Scale, SharedServer
from tests.reliability.load import ONE_PICTURE, PICTURE, Call, Tally, closed_loops, predict_call

_CALLERS = 8


def _photograph() -> pb.Image:
    buffer = io.BytesIO()
    Image.effect_noise((640, 480), 60).convert("RGB").save(buffer, "JPEG")
    return pb.Image(encoded=buffer.getvalue())


def _mixed(channel: grpc.aio.Channel) -> Call:
    """Lone pictures, lists, photographs, a list with a bad picture; each in turn."""
    requests = (
        ONE_PICTURE,
        pb.PredictRequest(images=[PICTURE] * 16),
        pb.PredictRequest(images=[_photograph()]),
        pb.PredictRequest(images=[PICTURE, pb.Image(rgb=b"bad")]),
    )
    calls = itertools.cycle([predict_call(channel, request) for request in requests])

    async def call() -> object:
        return await next(calls)()

    return call


@dataclass
class Sample:
    """A moment of the soak: seconds since its start, MiB of all processes, p99 of the calls since the last one."""

    seconds: float
    rss_mib: float
    p99_ms: float


async def _soak(server: SharedServer, tally: Tally, *, seconds: float, every: float) -> list[Sample]:
    started = time.monotonic()
    samples = []
    while (now := time.monotonic() - started) < seconds:
        tally.seconds.clear()
        await asyncio.sleep(every)
        samples.append(Sample(now, usage.rss_mib(server.pid), tally.quantile_ms(99)))
    return samples


@pytest.mark.timeout(480)
async def test_soak(server: SharedServer, scale: Scale, figure: Figure) -> None:
    """T21. Steady load for minutes: 0 errors, less than 1 MB more a minute, p99 at the end as at the beginning."""
    warm_up, seconds, every = scale.choose(short=(0.5, 2.0, 0.5), full=(40.0, 300.0, 10.0))
    answered = server.metric("cifarserve_requests_total", method="Predict", code="OK")
    async with (
        grpc.aio.insecure_channel(server.address) as channel,
        closed_loops(_mixed(channel), callers=_CALLERS) as tally,
    ):
        await asyncio.sleep(warm_up)
        samples = await _soak(server, tally, seconds=seconds, every=every)
    answered = server.metric("cifarserve_requests_total", method="Predict", code="OK") - answered

    slope = float(np.polyfit([sample.seconds for sample in samples], [sample.rss_mib for sample in samples], 1)[0]) * 60
    half = len(samples) // 2
    early, late = (float(np.median([sample.p99_ms for sample in part])) for part in (samples[:half], samples[half:]))
    assert tally.failed == 0
    assert answered == tally.answered
    if scale.full:
        assert slope < 1
        assert late / early <= 1.1
    figure(
        promise="steady load leaves no trace",
        tested=f"{seconds / 60:.1f} minutes of {_CALLERS} callers: lone pictures, lists, photographs, bad ones",
        value=f"0 errors in {tally.answered:,} requests; memory {slope:+.2f} MiB/min;"
        f" p99 {early:.1f} ms in the first half, {late:.1f} ms in the second",
    )
