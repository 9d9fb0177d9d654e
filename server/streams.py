"""Bidirectional streams: a bounded number of requests is worked on at once, and a drain owes nobody an answer.

Knows no messages; a door says how one request is answered and how an answer is written.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from server.errors import Draining, ServingError

Request = TypeVar("Request")
Response = TypeVar("Response")

_WINDOW = 256  # requests of one stream that are worked on at once; then reading waits


class Streams:
    """All streams of a server."""

    def __init__(self) -> None:
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Let every stream answer what it has accepted, then end it with UNAVAILABLE."""
        self._draining.set()

    async def answer(
        self,
        requests: AsyncIterable[Request],
        respond: Callable[[Request], Awaitable[Response]],
        write: Callable[[Response], Awaitable[None]],
        *,
        in_order: bool,
    ) -> None:
        """Answer each request of a stream; return when the caller has no more and all are answered.

        Args:
            requests: as they come.
            respond: returns the answer to one of them. What it raises ends the stream, after the answers
                to the requests before when they are written in order.
            write: sends an answer; called by one task at a time.
            in_order: whether answers are written in the order of the requests, or as they are finished.

        Raises:
            ServingError: of `respond` or `requests`.
            Draining: the server is stopping; what was accepted was answered.
        """
        async with _one_error(), asyncio.TaskGroup() as group:
            reading = group.create_task(_read(group, requests, respond, write, in_order=in_order))
            draining = group.create_task(self._draining.wait())
            await asyncio.wait({reading, draining}, return_when=asyncio.FIRST_COMPLETED)
            if draining.done():
                reading.cancel()
            draining.cancel()
        if self._draining.is_set():
            raise Draining("the server is stopping; every request that it accepted was answered")


async def _read(
    group: asyncio.TaskGroup,
    requests: AsyncIterable[Request],
    respond: Callable[[Request], Awaitable[Response]],
    write: Callable[[Response], Awaitable[None]],
    *,
    in_order: bool,
) -> None:
    """Start on each request as it comes; whoever cancels this leaves to the group what was started."""
    window = asyncio.Semaphore(_WINDOW)
    writing = asyncio.Lock()
    answering: set[asyncio.Task[None]] = set()
    last: asyncio.Task[None] | None = None

    async def answer(request: Request, before: asyncio.Task[None] | None) -> None:
        try:
            response = await respond(request)
        finally:
            if before is not None:
                await asyncio.wait({before})
        async with writing:  # grpc.aio takes one message of a stream at a time
            await write(response)
        window.release()

    try:
        async for request in requests:
            await window.acquire()
            last = group.create_task(answer(request, last if in_order else None))
            answering.add(last)
            last.add_done_callback(answering.discard)
    except ServingError:  # bytes that are no message: what came before is answered
        await asyncio.gather(*answering)
        raise


@contextlib.asynccontextmanager
async def _one_error() -> AsyncIterator[None]:
    """Raise the first `ServingError` of a group by itself, as the interceptor expects it."""
    try:
        yield
    except ExceptionGroup as group:
        serving, _ = group.split(ServingError)
        if serving is None:
            raise
        raise serving.exceptions[0] from None
