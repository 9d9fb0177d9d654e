"""What an engine's process does once its lanes are made (`server.engines.lanes`); its socket is standard input.

Computes what lies in the shared memory, slot by slot, and ends when the socket closes. Knows no
batching, no protocol of the outside, and no event loop.
"""

import functools
import json
import signal
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
import torch

from models.errors import ModelError
from server.engines.forward import Forward, select_device
from server.engines.lanes import Lanes
from server.engines.local import FAILED, READY, REFUSED, REPLY, REQUEST, LocalEngineSettings
from server.engines.shared import SharedBatches
from server.errors import StartError
from server.logs import configure_logging

_log = structlog.get_logger(__name__)


def main(arguments: dict[str, Any], lanes: Lanes) -> None:
    """Load, say how it went, then compute until the server hangs up."""
    # The server decides when to stop, also when Ctrl-C reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    descriptor, slots = arguments.pop("descriptor"), arguments.pop("slots")
    settings = LocalEngineSettings(**arguments)
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    torch.set_num_threads(1)  # of one pass; the lanes work side by side
    server = socket.socket(fileno=0)
    batches = SharedBatches(descriptor, max_batch_size=settings.max_batch_size, slots=slots)
    try:
        forward = Forward(
            Path(settings.folder),
            device=select_device(settings.device),
            precision=settings.precision,
        )
        batch_seconds = forward.warm_up(batches.slots[0])
    except ModelError as exc:
        server.send(REFUSED + f"{exc.fault} {exc}".encode())
        return
    except StartError as exc:
        server.send(FAILED + str(exc).encode())
        return
    server.send(READY + json.dumps({**asdict(forward.info), "batch_seconds": batch_seconds}).encode())
    lanes.run(functools.partial(_compute_until_closed, server, batches, forward))


def _compute_until_closed(server: socket.socket, batches: SharedBatches, forward: Forward) -> None:
    """One lane: whichever is free takes the next message from the socket; the kernel is the queue."""
    while message := server.recv(REQUEST.size):
        number, count = REQUEST.unpack(message)
        try:
            forward.compute(batches.slots[number], count)
        except Exception:  # noqa: BLE001  # one batch failed; the next may not
            _log.exception("the forward pass of a batch of %d failed", count)
            server.send(REPLY.pack(number, 1) + b"the forward pass failed")
        else:
            server.send(REPLY.pack(number, 0))
