"""One name, two real servers: how the shipped client spreads its calls, as behind a headless service."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from client import ClassifierClient, RawRgb
from tests.server.process import ServerProcess, running_server

PICTURE = RawRgb(bytes(3072))


@pytest.fixture
async def servers(repository: Path) -> AsyncIterator[list[ServerProcess]]:
    flags = ("--repository", repository, "--default-model", "quick", "--device", "cpu")
    async with AsyncExitStack() as stack:
        started = (stack.enter_async_context(running_server(*flags)) for _ in range(2))
        yield list(await asyncio.gather(*started))


def target_of(servers: list[ServerProcess]) -> str:
    return "ipv4:" + ",".join(server.address for server in servers)


async def predict_until_all_answer(client: ClassifierClient, servers: list[ServerProcess]) -> None:
    """At first only one connection may be there."""
    async with asyncio.timeout(60):
        while not all(answered(server) for server in servers):
            await client.predict([PICTURE])


def answered(server: ServerProcess) -> float:
    return server.metric("cifarserve_images_total", outcome="answered")


@pytest.mark.timeout(300)
async def test_every_other_call_goes_to_each_server(servers: list[ServerProcess]) -> None:
    """By the servers' own counters, each of two has half of the calls."""
    async with ClassifierClient(target_of(servers)) as client:
        await predict_until_all_answer(client, servers)
        before = [answered(server) for server in servers]
        for _ in range(40):
            await client.predict([PICTURE])

    assert [answered(server) - was for server, was in zip(servers, before, strict=True)] == [20, 20]


@pytest.mark.timeout(300)
async def test_a_server_that_leaves_is_not_missed(servers: list[ServerProcess]) -> None:
    """When one of two is stopped, the other answers everything; no call fails."""
    leaving, staying = servers
    async with ClassifierClient(target_of(servers)) as client:
        await predict_until_all_answer(client, servers)
        stopping = asyncio.create_task(leaving.stop(signal.SIGTERM))
        while not stopping.done():
            await client.predict([PICTURE])
        before = answered(staying)
        for _ in range(10):
            await client.predict([PICTURE])

    assert await stopping == 0
    assert answered(staying) - before == 10
