"""Restarting servers one after the other is not seen by callers of the shipped client."""

import asyncio
import itertools
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from client import ClassifierClient, ClientError, RawRgb
from tests.reliability.conftest import Figure, Scale
from tests.reliability.load import soon
from tests.server.process import ServerProcess, running_server

_CALLERS = 16
_PICTURE = RawRgb(bytes(3072))


class RetryingCallers:
    """Closed loops through the shipped client; counts answers, keeps errors."""

    def __init__(self, client: ClassifierClient) -> None:
        self.answered = 0
        self.errors: list[str] = []
        self.over = asyncio.Event()
        self._client = client

    async def __call__(self) -> None:
        while not self.over.is_set():
            try:
                await self._client.predict([_PICTURE])
                self.answered += 1
            except ClientError as exc:
                self.errors.append(f"{type(exc).__name__}: {exc}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def start(stack: AsyncExitStack, repository: Path, port: int) -> ServerProcess:
    flags = ("--repository", repository, "--port", str(port), "--drain-delay-seconds", "0.2")
    return await stack.enter_async_context(running_server(*flags))


async def test_rolling_restart_costs_callers_nothing(quick_repository: Path, scale: Scale, figure: Figure) -> None:
    """T2. Two servers are restarted in turn under load: the client that retries sees no error."""
    restarts = scale.choose(short=1, full=10)
    wanted = scale.choose(short=400, full=10_000)
    ports = (free_port(), free_port())
    async with AsyncExitStack() as stack:
        servers = dict(
            zip(ports, await asyncio.gather(*(start(stack, quick_repository, port) for port in ports)), strict=True)
        )
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        client = await stack.enter_async_context(ClassifierClient(target, timeout_seconds=30))
        callers = RetryingCallers(client)
        async with asyncio.TaskGroup() as group:
            for _ in range(_CALLERS):
                group.create_task(callers())
            for port in itertools.islice(itertools.cycle(ports), restarts):
                seen = callers.answered
                await soon(lambda seen=seen: callers.answered >= seen + 50)  # type: ignore[misc]  # a default binds the loop's value
                servers[port].process.send_signal(signal.SIGTERM)
                assert await servers[port].wait() == 0
                servers[port] = await start(stack, quick_repository, port)
            await soon(lambda: callers.answered >= wanted)
            callers.over.set()

    assert callers.errors == []
    figure(
        promise="0 client-visible errors across a rolling restart",
        tested=f"two servers restarted in turn, {restarts} restarts, {_CALLERS} callers of the shipped client",
        value=f"0 errors in {callers.answered:,} requests",
    )
