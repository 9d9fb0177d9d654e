"""What is known of the request that runs now; the door opens the record, and whoever answers writes into it."""

import time
from contextvars import ContextVar
from dataclasses import dataclass

from server.metrics import PredictRecord


@dataclass(slots=True)
class RequestRecord:
    """One RPC. A stream that answers many requests is one too, and `answer` is that of its last.

    Attributes:
        id: the caller's `x-request-id`, or one that was made here.
        method: its name, as package.Service/Method.
        peer: gRPC's name for the caller's address.
        caller: the name beside its token; empty: it showed none.
        started_ns: Unix time.
        parent: the W3C `traceparent` that came, or with tracing that of its own span; empty: none.
        state: the caller's W3C `tracestate`.
        code: of the status that it ended with.
        seconds: how long it took.
        answers: how many requests it answered, of those that were computed.
        answer: what became of the last of them.
        answered_ns: when that was noted; Unix time.
    """

    id: str
    method: str
    peer: str
    caller: str
    started_ns: int
    parent: str = ""
    state: str = ""
    code: str = ""
    seconds: float = 0.0
    answers: int = 0
    answer: PredictRecord | None = None
    answered_ns: int = 0

    def note(self, answer: PredictRecord) -> None:
        """Take note of a request that was computed."""
        self.answers += 1
        self.answer = answer
        self.answered_ns = time.time_ns()


CURRENT: ContextVar[RequestRecord | None] = ContextVar("request", default=None)
