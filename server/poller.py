"""gRPC's poller, kept beside the event loop.

grpc.aio takes the events of gRPC's core in a thread of its own, the poller, which passes each to the event loop. On
another CPU than the loop it wakes the loop for every single event; on the same CPU it interrupts the loop for every
single event. Both cost more than the event. Here it runs on the loop's CPU, and only when the loop has nothing to do,
so that events come many at a time. Knows no protocol.
"""

import asyncio
import contextlib
import ctypes
import os
import threading
from collections.abc import AsyncIterator

import structlog

_FOLLOW_SECONDS = 0.1  # a loop stays on its CPU for much longer while it is busy
_POLLER = "(_poll_wrapper)"  # how the thread's name ends: Python names threads after what they run

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def poller_beside_the_loop() -> AsyncIterator[None]:
    """Keep the poller on the event loop's CPU inside; enter it when there is a gRPC server.

    Without that thread, or where the machine does not allow it, nothing is changed.
    """
    poller = next((thread.native_id for thread in threading.enumerate() if thread.name.endswith(_POLLER)), None)
    following = asyncio.create_task(_follow(poller)) if poller else None
    try:
        yield
    finally:
        if following:
            following.cancel()


async def _follow(poller: int) -> None:
    current_cpu = ctypes.CDLL(None).sched_getcpu
    followed = -1
    try:
        os.sched_setscheduler(poller, os.SCHED_BATCH, os.sched_param(0))  # it interrupts nobody when it wakes
        while True:
            if (cpu := current_cpu()) != followed:
                os.sched_setaffinity(poller, {cpu})
                followed = cpu
            await asyncio.sleep(_FOLLOW_SECONDS)
    except OSError as exc:
        _log.debug("gRPC's poller stays where it is", reason=str(exc))
