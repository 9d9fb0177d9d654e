"""Waiting for something to become true, with a deadline and without sleeping for luck."""

import asyncio
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], bool], *, within_seconds: float = 5.0) -> None:
    """Return as soon as `condition` holds; fail the test when it does not in time."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {within_seconds} s"
        await asyncio.sleep(0.001)
