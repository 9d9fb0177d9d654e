"""What a call's context tells the doors. Knows gRPC's contexts and nothing of the messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]


def deadline_of(context: Context) -> float | None:
    """Return when the caller gives up, on the clock of `time.monotonic`; None when it never does."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining
