"""How much may wait in a queue: its bounds in items and in bytes, and when there will be room again."""

import random
import time
from collections.abc import Callable
from typing import Self

from server.errors import Overloaded

_WEIGHT_OF_THE_NEWEST = 0.1
# Callers that are refused in the same moment are asked to return spread over this share around the estimate.
_SPREAD = 0.5
_LEAST_SECONDS = 0.001


class Reservation:
    """Room for one caller's items and bytes, from before they are made ready until the block is left.

    Attributes:
        items: how many have not yet been put into the queue.
        size_bytes: what the caller's request keeps in memory.
    """

    __slots__ = ("_room", "_since", "items", "size_bytes")

    def __init__(self, room: "Room", *, items: int, size_bytes: int) -> None:
        self._room = room
        self._since = time.monotonic()
        self.items = items
        self.size_bytes = size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.release_items(self.items)
        self._room.leave(self.size_bytes, seconds=time.monotonic() - self._since)


class Room:
    """The bounds of one queue. Whoever has a reservation is never refused later."""

    def __init__(self, *, max_items: int, max_bytes: int, seconds_to_compute: Callable[[int], float]) -> None:
        """Set the bounds.

        Args:
            max_items: most items that may be made ready or wait, all callers together.
            max_bytes: most bytes of requests that may be held until they are answered.
            seconds_to_compute: how long so many items are expected to take, by what was measured.
        """
        self._seconds_to_compute = seconds_to_compute
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items = 0
        self._bytes = 0
        self._seconds_inside = 0.0

    @property
    def items(self) -> int:
        """Items that are made ready or wait."""
        return self._items

    def reserve(self, items: int, *, size_bytes: int) -> Reservation:
        """Return room, to be entered at once.

        Args:
            items: how many will wait.
            size_bytes: what their request holds.

        Raises:
            Overloaded: a bound would be exceeded; says when what waits will have been computed.
        """
        if self._items + items > self._max_items:
            raise Overloaded(
                f"the queue is full: {self._items} of {self._max_items} wait, {items} more came",
                retry_after_seconds=self._seconds_until_empty(),
            )
        if self._bytes + size_bytes > self._max_bytes:
            raise Overloaded(
                f"the queue is full: {self._bytes} of {self._max_bytes} bytes are held, {size_bytes} more came",
                retry_after_seconds=self._seconds_until_empty(),
            )
        self._items += items
        self._bytes += size_bytes
        return Reservation(self, items=items, size_bytes=size_bytes)

    def release_items(self, items: int) -> None:
        """Take note that items do not wait any more."""
        self._items -= items

    def leave(self, size_bytes: int, *, seconds: float) -> None:
        """Take note that a request was answered, or given up, after so many seconds."""
        self._bytes -= size_bytes
        self._seconds_inside += _WEIGHT_OF_THE_NEWEST * (seconds - self._seconds_inside)

    def _seconds_until_empty(self) -> float:
        # What waits costs the engine so much; where something else is the slower part, such as the decoding of
        # photographs, what was answered of late tells how long it takes to get through.
        estimate = max(self._seconds_to_compute(self._items), self._seconds_inside, _LEAST_SECONDS)
        return estimate * random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311  # not a secret
