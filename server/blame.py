"""Who made a batch fail: it is split until the guilty items are alone. Knows no protocol and no framework."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from server.errors import DeviceOutOfMemory, EngineDied, EngineFailed, EngineLost, ServingError

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class Blame(Generic[Item, Result]):
    """Finds out what becomes of each item of a batch that failed.

    First the engine has to show that it works, on items that it has computed before: when it fails
    on those, no item is to blame. Then the batch is halved until each item was computed or failed
    alone. A batch that did not fit into the device's memory is halved too, by the same way.
    """

    def __init__(
        self, predict: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, known_good: Sequence[Item]
    ) -> None:
        """Take what computes, and items that are known to be computed well; none: the engine is trusted."""
        self._predict = predict
        self._known_good = known_good

    async def outcomes(self, items: Sequence[Item], failure: Exception) -> list[Result | ServingError]:
        """Return the result or the error of each item of a batch that raised `failure`, in their order.

        Raises:
            EngineDied: the engine fails on what it has computed before.
        """
        if isinstance(failure, EngineLost):  # the engine was ended from outside, or ended itself: nobody's fault
            return [failure] * len(items)
        if not isinstance(failure, DeviceOutOfMemory):
            # An engine in another process has logged its own stack trace; ours would only show the way to it.
            trace = None if isinstance(failure, ServingError) else failure
            _log.error("the forward pass of a batch of %d failed", len(items), exc_info=trace)
            await self._prove_engine()
        return await self._split(items, failure)

    async def _prove_engine(self) -> None:
        if not self._known_good:
            return
        try:
            await self._predict(self._known_good)
        except EngineLost:
            raise
        except Exception as exc:
            raise EngineDied("it fails on a picture that it has computed before") from exc

    async def _split(self, items: Sequence[Item], failure: Exception) -> list[Result | ServingError]:
        if len(items) == 1:
            return [failure if isinstance(failure, ServingError) else EngineFailed("the model failed on this picture")]
        middle = len(items) // 2
        return [*await self._compute(items[:middle]), *await self._compute(items[middle:])]

    async def _compute(self, items: Sequence[Item]) -> Sequence[Result | ServingError]:
        try:
            return await self._predict(items)
        except EngineLost as exc:
            return [exc] * len(items)
        except Exception as exc:  # noqa: BLE001  # whatever a model raises, some item is to blame
            return await self._split(items, exc)
