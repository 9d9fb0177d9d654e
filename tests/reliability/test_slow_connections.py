"""Connections that do nothing, or do it slowly, cost the others nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from tests.reliability.conftest import Figure, Scale, SharedServer
from tests.reliability.load import ONE_PICTURE, Tally, closed_loops, predict_call, soon

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # and empty settings
# A HEADERS frame of 1000 bytes that never comes to its end.
_HALF_A_MESSAGE = _PREFACE + (1000).to_bytes(3, "big") + b"\x01\x04" + (1).to_bytes(4, "big") + b"\x82"
_SPARE_DESCRIPTORS = 20


async def _hold(host: str, port: int, number: int) -> None:
    """Connect and be silent, send half a message, or send a byte a second, until cancelled."""
    _, writer = await asyncio.open_connection(host, port)
    try:
        if number % 3 == 1:
            writer.write(_HALF_A_MESSAGE)
        for byte in _PREFACE if number % 3 == 2 else b"":
            writer.write(bytes([byte]))
            await asyncio.sleep(1)
        await asyncio.Event().wait()
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def _slow_connections(address: str, count: int) -> AsyncIterator[None]:
    host, port = address.split(":")
    holding = [asyncio.create_task(_hold(host, int(port), number)) for number in range(count)]
    try:
        yield
    finally:
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def _measure(channel: grpc.aio.Channel, seconds: float) -> Tally:
    async with closed_loops(predict_call(channel, ONE_PICTURE), callers=4) as tally:
        await asyncio.sleep(seconds)
    return tally


async def test_slow_connections_cost_the_others_nothing(server: SharedServer, scale: Scale, figure: Figure) -> None:
    """T15. Beside 500 idle, half-sent and dripping connections the others' p99 stays; descriptors come back."""
    count = scale.choose(short=100, full=500)
    seconds = scale.choose(short=0.5, full=10.0)
    async with grpc.aio.insecure_channel(server.address) as channel:
        await _measure(channel, seconds)
        alone = await _measure(channel, seconds)
        before = _descriptors(server.pid)
        async with _slow_connections(server.address, count):
            await soon(lambda: _descriptors(server.pid) >= before + count)
            during = _descriptors(server.pid)
            beside = await _measure(channel, seconds)
        await soon(lambda: _descriptors(server.pid) <= before + _SPARE_DESCRIPTORS)

    ratio = beside.quantile_ms(99) / alone.quantile_ms(99)
    assert alone.failed == beside.failed == 0
    assert during <= before + count + _SPARE_DESCRIPTORS
    if scale.full:
        assert ratio <= 1.5
    figure(
        promise="500 idle or slow connections do not slow the others down",
        tested=f"{count} connections, idle, half-sent or one byte a second, beside 4 closed-loop callers",
        value=f"0 errors, p99 {beside.quantile_ms(99):.1f} ms, {ratio:.2f} times the one without them;"
        f" file descriptors +{during - before}, and back",
    )
