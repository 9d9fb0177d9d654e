"""What can wait until the event loop has done all that lies before it, and is then done together.

The callers of one batch are all answered in one turn of the event loop. To count what became of them behind that
turn, for all at once, costs less than to count it between their answers, and the answers leave first.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Together(Generic[Item]):
    """Collects items, and gives all of them to one call of `take`; for use inside a running event loop.

    `take` must not raise: nobody would learn of it.
    """

    def __init__(self, take: Callable[[list[Item]], object]) -> None:
        self._take = take
        self._items: list[Item] = []

    def add(self, item: Item) -> None:
        """Have `item` taken in the next turn of the event loop, with those that others add until then."""
        if not self._items:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._items.append(item)

    def _hand_over(self) -> None:
        items, self._items = self._items, []
        self._take(items)
