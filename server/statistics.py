"""Counts and durations of one served version since it was loaded. Knows no protocol; the metrics page has more."""

import time
from dataclasses import dataclass, field

from server.batches import BatchRecord


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
class Statistics:
    """What was asked of one version, through whichever door, and what became of it.

    Attributes:
        images: pictures computed.
        last_pass_unix_ms: when the last forward pass ended; 0: there was none.
        answered: requests all of whose pictures were answered.
        failed: the other requests.
        decode_seconds: bytes to pixels, of the answered requests.
        queue_seconds: waiting for the engine, likewise.
        compute_seconds: the forward pass that held the request, likewise.
        passes: forward passes by how many pictures they held.
    """

    images: int = 0
    last_pass_unix_ms: int = 0
    answered: Total = field(default_factory=Total)
    failed: Total = field(default_factory=Total)
    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    passes: dict[int, Total] = field(default_factory=dict)

    @property
    def handback_seconds(self) -> float:
        """From the end of the forward pass to the answer, of the answered requests."""
        return max(0.0, self.answered.seconds - self.decode_seconds - self.queue_seconds - self.compute_seconds)

    def observe_pass(self, record: BatchRecord) -> None:
        """Count a forward pass, unless it failed."""
        if record.failure:
            return
        self.images += record.size
        self.last_pass_unix_ms = time.time_ns() // 1_000_000
        self.passes.setdefault(record.size, Total()).add(record.compute_seconds)

    def observe_answer(
        self, *, total_seconds: float, decode_seconds: float, queue_seconds: float, compute_seconds: float
    ) -> None:
        """Count an answered request, and where its time went."""
        self.answered.add(total_seconds)
        self.decode_seconds += decode_seconds
        self.queue_seconds += queue_seconds
        self.compute_seconds += compute_seconds

    def observe_failure(self, total_seconds: float) -> None:
        """Count a request that was not answered."""
        self.failed.add(total_seconds)
