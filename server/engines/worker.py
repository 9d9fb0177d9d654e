"""What an engine's process does, once `server.engines.zygote` has forked it.

Computes what lies in the shared memory, slot by slot, and ends when the socket closes. Knows no
batching, no protocol of the outside, and no event loop.
"""

import functools
import json
import os
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
import torch

from models.errors import ModelError
from server.engines.forward import Forward, select_device
from server.engines.lanes import Lanes, yield_the_processor
from server.engines.local import (
    COMPUTED,
    DEVICE_FAILED,
    FAILED,
    OUT_OF_MEMORY,
    RAISED,
    READY,
    REFUSED,
    REPLY,
    REQUEST,
    LocalEngineSettings,
)
from server.engines.shared import SharedBatches
from server.errors import StartError
from server.logs import configure_logging

_log = structlog.get_logger(__name__)

# A caller that sends one picture after the other is back within a millisecond. Going to sleep and being woken costs
# a third of that on a virtual CPU, and the caches are cold then; so after a batch like that a lane stays awake.
_LONE_IMAGES = 2
_AWAKE_SECONDS = 0.001


def run(arguments: dict[str, Any], *, server: socket.socket, memory: int) -> None:
    """Load, say how it went, then compute until the server hangs up.

    Args:
        arguments: of `LocalEngineSettings`; `slots`, how many there are; `layout`, which one an earlier
            process found fastest, or empty: find out, and what batches cost.
        server: the connection.
        memory: descriptor of the shared batches.
    """
    slots, layout = arguments.pop("slots"), arguments.pop("layout")
    settings = LocalEngineSettings(**arguments)
    lanes = Lanes(settings.lanes)
    if settings.quiet:
        yield_the_processor()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    torch.set_num_threads(1)  # of one pass; the lanes work side by side
    batches = SharedBatches(memory, max_batch_size=settings.max_batch_size, slots=slots)
    try:
        forward = Forward(
            Path(settings.folder),
            device=select_device(settings.device),
            precision=settings.precision,
            compiled=settings.compile,
            layout=layout,
        )
        if layout:
            forward.wake_up(batches.slots)
        else:
            forward.warm_up(batches.slots)
    except ModelError as exc:
        server.send(REFUSED + f"{exc.fault} {exc}".encode())
        return
    except StartError as exc:
        server.send(FAILED + str(exc).encode())
        return
    server.send(READY + json.dumps(asdict(forward.info)).encode())
    lanes.run(functools.partial(_compute_until_closed, server, batches, forward))


def _compute_until_closed(server: socket.socket, batches: SharedBatches, forward: Forward) -> None:
    """One lane: whichever is free takes the next message from the socket; the kernel is the queue."""
    count = 0
    while message := _next_message(server, expect_soon=0 < count <= _LONE_IMAGES):
        number, count = REQUEST.unpack(message)
        try:
            forward.compute(batches.slots[number], count)
        except (torch.OutOfMemoryError, MemoryError):
            _log.warning("a batch did not fit into the device's memory", images=count)
            forward.free_memory()
            server.send(REPLY.pack(number, OUT_OF_MEMORY))
        except torch.AcceleratorError:  # the device's context is lost: no later pass can succeed in this process
            _log.exception("the device failed")
            server.send(REPLY.pack(number, DEVICE_FAILED))
            os._exit(1)  # an orderly end would ask the device to finish
        except Exception:  # noqa: BLE001  # one batch failed; the next may not
            _log.exception("the forward pass failed", images=count)
            server.send(REPLY.pack(number, RAISED))
        else:
            server.send(REPLY.pack(number, COMPUTED))


def _next_message(server: socket.socket, *, expect_soon: bool) -> bytes:
    """Wait for a message; when it is expected soon, without sleeping for a moment."""
    awake_until = time.monotonic() + _AWAKE_SECONDS if expect_soon else 0.0
    while time.monotonic() < awake_until:
        try:
            return server.recv(REQUEST.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            os.sched_yield()
    return server.recv(REQUEST.size)
