"""gRPC's own threads, kept from interrupting the event loop.

gRPC's core reads and writes in threads of its own; one more, grpc.aio's poller, passes each event to the event loop.
Left to themselves they interrupt the loop several times for each request. The poller on another CPU is worse: it
wakes the loop for every single event. Here they wait for their turn when they wake, and the poller stays on the
loop's CPU: it runs when the loop has nothing to do, and hands over what has come meanwhile. Knows no protocol.
"""

import asyncio
import contextlib
import ctypes
import os
import threading
from collections.abc import AsyncIterator, Iterator

import structlog

_FOLLOW_SECONDS = 0.25  # a busy loop stays on its CPU for much longer; looking costs an idle server next to nothing
_POLLER = "(_poll_wrapper)"  # how the thread's name ends: Python names threads after what they run

_log = structlog.get_logger(__name__)


@contextlib.contextmanager
def without_interruptions() -> Iterator[None]:
    """Give threads that are started inside the batch policy: they interrupt nobody when they wake (sched(7)).

    Start gRPC inside. Where somebody has chosen another policy than the normal one for the caller, or the machine does
    not allow it, nothing is changed.
    """
    if os.sched_getscheduler(0) != os.SCHED_OTHER:  # it might not be allowed to have its own back
        yield
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError as exc:
        _log.debug("gRPC's threads may interrupt the event loop", reason=str(exc))
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


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
        while True:
            if (cpu := current_cpu()) != followed:
                os.sched_setaffinity(poller, {cpu})
                followed = cpu
            await asyncio.sleep(_FOLLOW_SECONDS)
    except OSError as exc:
        _log.debug("gRPC's poller stays where it is", reason=str(exc))
