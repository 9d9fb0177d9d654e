"""Who is still inside: counts running RPCs, refuses new ones in a drain, and tells when all have left."""

import asyncio
import time

from server.errors import Draining

_QUIET_SECONDS = 0.05
_POLL_SECONDS = 0.005


class Admission:
    """The door's counter. Refusing here, rather than closing the port, gives every caller a status.

    A gRPC server that shuts down cancels calls that arrived but were not yet looked at; callers cannot
    tell whether such a call was begun. So the server first refuses with UNAVAILABLE, until nobody is
    inside and nobody has knocked for a moment, and only then shuts down.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._last_arrival = 0.0
        self._draining = False

    @property
    def inside(self) -> int:
        """RPCs that were let in and are not finished."""
        return self._inside

    def __enter__(self) -> None:
        """Be counted for the length of one RPC; many can be inside at once.

        Raises:
            Draining: the server is stopping.
        """
        if self._draining:
            self._last_arrival = time.monotonic()
            raise Draining("the server is stopping; retry elsewhere")
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1

    async def drain(self, *, timeout_seconds: float) -> bool:
        """Refuse new RPCs; return True when all have left and it is quiet, False when time is up first."""
        self._draining = True
        self._last_arrival = time.monotonic()
        deadline = self._last_arrival + timeout_seconds
        while self._inside or time.monotonic() < self._last_arrival + _QUIET_SECONDS:
            if time.monotonic() >= deadline:
                return self._inside == 0
            await asyncio.sleep(_POLL_SECONDS)
        return True
