"""The access log: one line of JSON for each RPC that is chosen, on standard output. Never what a picture shows."""

import collections
import json
import random
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import BinaryIO, Self

from server.telemetry.record import RequestRecord

_MAX_WAITING_LINES = 10_000
_INTERVAL_SECONDS = 0.25  # a thread that woke up for each line would take the interpreter from the event loop each time
_PATIENCE_SECONDS = 1.0


class AccessLog:
    """Writes lines in a thread of its own while it is entered, so that nobody waits for whoever reads them."""

    def __init__(
        self,
        share: float,
        *,
        output: BinaryIO | None = None,
        chance: Callable[[], float] = random.random,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Write nothing yet.

        Args:
            share: of all RPCs that have a line, 0 to 1.
            output: None: standard output.
            chance: draws a number from 0 to 1 for each RPC.
            on_lost: is told of each line that is thrown away, because too many wait or it cannot be written.
        """
        self._on_lost = on_lost
        self._share = share
        self._output = output or sys.stdout.buffer
        self._chance = chance
        self._waiting: collections.deque[RequestRecord] = collections.deque()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write, name="access log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_PATIENCE_SECONDS)  # where nobody reads the lines, the end does not wait for them

    def wants_one(self) -> bool:
        """Return whether the next RPC is to have a line."""
        return self._chance() < self._share

    def write(self, record: RequestRecord) -> None:
        """Write the line of an RPC that has ended, or lose it when too many wait."""
        if len(self._waiting) < _MAX_WAITING_LINES:
            self._waiting.append(record)
        else:
            self._on_lost()

    def _write(self) -> None:
        while not self._ended.wait(_INTERVAL_SECONDS):
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        records = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not records:
            return
        try:
            self._output.write(b"".join(map(to_line, records)))
            self._output.flush()
        except OSError:  # a full disk, or nobody there: the server goes on
            for _ in records:
                self._on_lost()


def to_line(record: RequestRecord) -> bytes:
    """Return an RPC's line. Model, version and timings are those of its only request; a stream of several has none."""
    fields: dict[str, object] = {
        "timestamp": datetime.fromtimestamp(record.started_ns / 1e9, UTC).isoformat(timespec="milliseconds"),
        "event": "request",
        "id": record.id,
        "peer": record.peer,
        "method": record.method,
        "code": record.code,
        "total_ms": _ms(record.seconds),
    }
    if record.caller:
        fields["caller"] = record.caller
    if record.parent:
        fields["trace_id"] = record.parent.split("-")[1] if record.parent.count("-") >= 3 else ""  # noqa: PLR2004  # W3C
    if record.answers > 1:
        fields["answers"] = record.answers
    elif answer := record.answer:
        fields |= {
            "model": answer.model,
            "version": answer.version,
            "images": len(answer.labels) + answer.invalid + answer.failed,
            "decode_ms": _ms(answer.decode_seconds),
            "queue_ms": _ms(answer.queue_seconds),
            "compute_ms": _ms(answer.compute_seconds),
        }
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
