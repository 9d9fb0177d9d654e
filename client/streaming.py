"""Requests out and responses in over one stream, at the same time. Knows no pictures."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable

import grpc

from cifarserve.v1 import classifier_pb2 as pb
from client.errors import ServerFailed

MAX_UNANSWERED = 16


async def exchange(
    call: "grpc.aio.StreamStreamCall[pb.PredictRequest, pb.PredictResponse]",
    requests: AsyncIterable[pb.PredictRequest],
    *,
    timeout_seconds: float,
) -> AsyncGenerator[pb.PredictResponse, None]:
    """Send `requests` while yielding responses, one for each; leaving ends the call.

    At most `MAX_UNANSWERED` requests wait for a response. What `requests` raises is raised here,
    after the responses to what it had yielded before.

    Raises:
        TimeoutError: a response was due and none came for `timeout_seconds`.
        ServerFailed: the server ended the stream too early.
        grpc.aio.AioRpcError: the stream failed.
    """
    due: asyncio.Queue[str | None] = asyncio.Queue()  # the id of each unanswered request, then None
    room = asyncio.Semaphore(MAX_UNANSWERED)
    sending = asyncio.create_task(_send(call, requests, due, room))
    try:
        while await due.get() is not None:
            async with asyncio.timeout(timeout_seconds):
                response = await call.read()
            if not isinstance(response, pb.PredictResponse):  # grpc.aio.EOF
                raise ServerFailed("the server ended the stream before it had answered every request")
            room.release()
            yield response
        await sending
    finally:
        call.cancel()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(
    call: "grpc.aio.StreamStreamCall[pb.PredictRequest, pb.PredictResponse]",
    requests: AsyncIterable[pb.PredictRequest],
    due: asyncio.Queue[str | None],
    room: asyncio.Semaphore,
) -> None:
    try:
        async for request in requests:
            await room.acquire()
            due.put_nowait(request.id)  # before writing: when that fails, the reader is the one who learns why
            await call.write(request)
        await call.done_writing()
    finally:
        due.put_nowait(None)
