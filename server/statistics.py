"""Counts and durations of one served version since it was loaded. Knows no protocol; the metrics page has more."""

import time
from dataclasses import dataclass, field

from server.batcher import BatchRecord


@dataclass(slots=True)
class Total:
    """How often something happened, and the seconds that it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count once more."""
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class RequestRecord:
    """Where the time of one request went.

    Attributes:
        total_seconds: from its arrival to its answer.
        decode_seconds: bytes to pixels.
        queue_seconds: waiting for the engine.
        compute_seconds: of the forward pass that held it.
    """

    total_seconds: float
    decode_seconds: float
    queue_seconds: float
    compute_seconds: float


@dataclass(slots=True)
class Statistics:
    """What was asked of one version, through whichever door, and what became of it.

    Attributes:
        images: pictures computed.
        last_pass_unix_ms: when the last forward pass ended; 0: there was none.
        answered: requests all of whose pictures were answered.
        failed: the other requests.
        queue: waiting for the engine, of the answered requests.
        decode: bytes to pixels, likewise.
        compute: the forward pass that held the request, likewise.
        handback: from the end of that pass to the answer, likewise.
        passes: forward passes by how many pictures they held.
    """

    images: int = 0
    last_pass_unix_ms: int = 0
    answered: Total = field(default_factory=Total)
    failed: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    decode: Total = field(default_factory=Total)
    compute: Total = field(default_factory=Total)
    handback: Total = field(default_factory=Total)
    passes: dict[int, Total] = field(default_factory=dict)

    def observe_pass(self, record: BatchRecord) -> None:
        """Count a forward pass, unless it failed."""
        if record.failure:
            return
        self.images += record.size
        self.last_pass_unix_ms = time.time_ns() // 1_000_000
        self.passes.setdefault(record.size, Total()).add(record.compute_seconds)

    def observe_answer(self, record: RequestRecord) -> None:
        """Count an answered request."""
        self.answered.add(record.total_seconds)
        self.queue.add(record.queue_seconds)
        self.decode.add(record.decode_seconds)
        self.compute.add(record.compute_seconds)
        inside = record.decode_seconds + record.queue_seconds + record.compute_seconds
        self.handback.add(max(0.0, record.total_seconds - inside))

    def observe_failure(self, total_seconds: float) -> None:
        """Count a request that was not answered."""
        self.failed.add(total_seconds)
