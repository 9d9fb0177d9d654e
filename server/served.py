"""One version that answers: its card, its engine, its queue, and the order in which they end."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from models.card import Card
from models.preprocessing import IMAGE_BYTES
from server.batcher import Batcher
from server.batches import BatchRecord
from server.engines import Engine, Pixels, Scores
from server.statistics import Statistics

# What every engine computes while it warms up; when a batch fails it tells whether the engine is at fault.
_GREY: Pixels = bytes([127]) * IMAGE_BYTES


@dataclass(frozen=True)
class BatchLimits:
    """How batches are formed; see `Batcher`."""

    max_batch_size: int
    max_queue_delay_seconds: float
    max_queue_items: int
    max_queue_bytes: int = 2**63
    max_stall_seconds: float = 60.0
    lanes: int = 1


class ServedModel:
    """One version that answers; made by `serve_version`.

    Inside `with served:` it is not closed, so that a request that found this version is answered by it,
    whatever is loaded meanwhile.
    """

    def __init__(
        self,
        card: Card,
        engine: Engine,
        batcher: Batcher[Pixels, Scores],
        statistics: Statistics,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self.card = card
        self.engine = engine
        self.batcher = batcher
        self.statistics = statistics
        self._stack = stack
        self._users = 0
        self._unused = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def close(self) -> None:
        """Wait until nobody uses it, answer what its queue holds, and free its engine.

        Goes on to the end when the caller is cancelled, and happens once however often it is called.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"close {self.card.model} {self.card.version}")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        while self._users:
            self._unused.clear()
            await self._unused.wait()
        await self._stack.aclose()


async def serve_version(
    card: Card,
    engine: Engine,
    *,
    limits: BatchLimits,
    observe: Callable[[BatchRecord], None],
    on_broken: Callable[[str], None],
) -> ServedModel:
    """Start an engine and a queue in front of it.

    Raises:
        ModelError: the version cannot be loaded.
        StartError: the engine cannot run on this machine.
    """
    statistics = Statistics()

    def observe_both(record: BatchRecord) -> None:
        statistics.observe_pass(record)
        observe(record)

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(engine)
        batcher: Batcher[Pixels, Scores] = Batcher(
            engine.predict,
            max_batch_size=limits.max_batch_size,
            max_queue_delay_seconds=limits.max_queue_delay_seconds,
            max_queue_items=limits.max_queue_items,
            max_queue_bytes=limits.max_queue_bytes,
            max_stall_seconds=limits.max_stall_seconds,
            known_good=[_GREY],
            max_batches_under_way=limits.lanes + 1,
            lanes=limits.lanes,
            pass_seconds=[engine.info.pass_seconds(size) for size in range(limits.max_batch_size + 1)].__getitem__,
            observe=observe_both,
            on_broken=on_broken,
        )
        await stack.enter_async_context(batcher)
        return ServedModel(card, engine, batcher, statistics, stack.pop_all())
