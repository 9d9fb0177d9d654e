"""What is put around a method's behavior: only callers on this machine, or only so many requests of each client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from server.errors import TooManyRequests
from server.security.gate import CALLER, Gate, host_of
from server.security.rate import RateLimit

if TYPE_CHECKING:
    import grpc

    _Context = grpc.aio.ServicerContext[Any, Any]
    _Behavior = Callable[[Any, _Context], Awaitable[object]]


def by_peer(behavior: _Behavior, gate: Gate) -> _Behavior:
    """Refuse calls from where the method may not be called."""

    async def checked(request: object, context: _Context) -> object:
        gate.check_peer(context.peer())
        return await behavior(request, context)

    return checked


def limited(behavior: _Behavior, limit: RateLimit) -> _Behavior:
    """Refuse requests of a client that sends too many, and say when the next one is welcome."""

    async def refused_or_answered(request: object, context: _Context) -> object:
        seconds = limit.take(_client(context))
        if seconds:
            raise TooManyRequests("too many requests of this client", retry_after_seconds=seconds)
        return await behavior(request, context)

    return refused_or_answered


def paced(behavior: _Behavior, limit: RateLimit) -> _Behavior:
    """Read the requests of a stream no faster than its client may send them; gRPC holds up the sender."""

    async def read_slowly(requests: AsyncIterable[object], context: _Context) -> object:
        return await behavior(_pace(requests, limit, _client(context)), context)

    return read_slowly


async def _pace(requests: AsyncIterable[object], limit: RateLimit, client: str) -> AsyncIterator[object]:
    async for request in requests:
        while seconds := limit.take(client):  # noqa: ASYNC110  # it is time that has to pass
            await asyncio.sleep(seconds)
        yield request


def _client(context: _Context) -> str:
    """Return whom a request counts for: the name beside the token, or else the address."""
    return CALLER.get() or host_of(context.peer())
