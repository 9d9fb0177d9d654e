"""The engine's process: `python -m server.engines.worker SETTINGS`, with its socket as standard input.

Computes what lies in the shared memory, slot by slot, and ends when the socket closes. Knows no
batching, no protocol of the outside, and no event loop.
"""

import json
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path

import structlog

from models.errors import ModelError
from server.engines.forward import Forward, select_device
from server.engines.local import FAILED, READY, REFUSED, REPLY, REQUEST, SLOTS, LocalEngineSettings
from server.engines.shared import SharedBatches
from server.errors import StartError
from server.logs import configure_logging

_log = structlog.get_logger(__name__)


def main() -> None:
    """Load, say how it went, then compute until the server hangs up."""
    # The server decides when to stop, also when Ctrl-C reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    arguments = json.loads(sys.argv[1])
    descriptor = arguments.pop("descriptor")
    settings = LocalEngineSettings(**arguments)
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    server = socket.socket(fileno=0)
    batches = SharedBatches(descriptor, max_batch_size=settings.max_batch_size, slots=SLOTS)
    try:
        forward = Forward(
            Path(settings.folder),
            device=select_device(settings.device),
            precision=settings.precision,
            threads=settings.threads,
        )
        batch_seconds = forward.warm_up(batches.slots[0])
    except ModelError as exc:
        server.send(REFUSED + str(exc).encode())
        return
    except StartError as exc:
        server.send(FAILED + str(exc).encode())
        return
    server.send(READY + json.dumps({**asdict(forward.info), "batch_seconds": batch_seconds}).encode())
    _compute_until_closed(server, batches, forward)


def _compute_until_closed(server: socket.socket, batches: SharedBatches, forward: Forward) -> None:
    while message := server.recv(REQUEST.size):
        number, count = REQUEST.unpack(message)
        try:
            forward.compute(batches.slots[number], count)
        except Exception:  # noqa: BLE001  # one batch failed; the next may not
            _log.exception("the forward pass of a batch of %d failed", count)
            server.send(REPLY.pack(number, 1) + b"the forward pass failed")
        else:
            server.send(REPLY.pack(number, 0))


if __name__ == "__main__":
    main()
