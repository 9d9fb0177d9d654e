"""Dynamic batching: many callers, one forward pass. Knows no protocol and no framework."""

import asyncio
import collections
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, Self, TypeVar

from server.errors import DeadlineExceeded, Draining, EngineFailed, Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")

_TIMER_SECONDS = 0.005  # how late an event loop's timer may be

_log = logging.getLogger(__name__)


class DispatchReason(StrEnum):
    """Why a batch left when it did."""

    FULL = "full"
    IDLE = "idle"
    DELAY = "delay"
    DEADLINE = "deadline"
    DRAIN = "drain"


class Answer(NamedTuple, Generic[Result]):
    """The results of one `submit`, in the order of its items, and where the time went."""

    results: Sequence[Result]
    queue_seconds: float
    compute_seconds: float
    batch_size: int


class BatchRecord(NamedTuple):
    """What an observer is told of each finished batch: its size, reason, and seconds."""

    size: int
    reason: DispatchReason
    compute_seconds: float
    queue_seconds: tuple[float, ...]


@dataclass(slots=True)
class _Entry(Generic[Item, Result]):
    """Items of one caller that stay together in one batch; the answer travels with them."""

    items: Sequence[Item]
    answer: asyncio.Future[Answer[Result]]
    arrived: float
    deadline: float | None


class Batcher(Generic[Item, Result]):
    """Turn concurrent `submit` calls into calls of `predict` on a batch.

    A batch leaves the moment the engine is free, with everything that waits, up to `max_batch_size`
    items. With a positive `max_queue_delay_seconds` it first waits for more, until it is full, until
    that long after its oldest item *arrived*, or until a caller's deadline comes near.

    Entering starts the loop. Leaving refuses new work, answers everything accepted, and stops.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        max_batch_size: int,
        max_queue_delay_seconds: float = 0.0,
        max_queue_items: int,
        max_batches_under_way: int = 1,
        observe: Callable[[BatchRecord], None],
    ) -> None:
        """Set the bounds.

        Args:
            predict: returns as many results as it gets items.
            max_batch_size: most items in one call of `predict`.
            max_queue_delay_seconds: see the class.
            max_queue_items: most items that may wait.
            max_batches_under_way: how many calls of `predict` may run at once. All but the first are
                full batches: those cannot grow any more, so nothing is lost by handing them over early.
            observe: is told of each finished batch; must not raise or block.
        """
        self._predict = predict
        self._max_batch_size = max_batch_size
        self._max_queue_delay = max_queue_delay_seconds
        self._max_queue_items = max_queue_items
        self._max_batches_under_way = max_batches_under_way
        self._observe = observe
        self._under_way = 0
        self._entries: collections.deque[_Entry[Item, Result]] = collections.deque()
        self._queued_items = 0
        self._seconds_per_item = 0.0
        self._changed = asyncio.Event()
        self._draining = False
        self._loop_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._loop_task = asyncio.create_task(self._run(), name="batcher")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._draining = True
        self._changed.set()
        if self._loop_task is not None:
            await self._loop_task

    @property
    def queued_items(self) -> int:
        """Items that wait for a batch."""
        return self._queued_items

    async def submit(self, items: Sequence[Item], *, deadline: float | None = None) -> Answer[Result]:
        """Return the results of `items`, computed together with other callers' items.

        More than `max_batch_size` items are computed in several batches.

        Args:
            items: at least one.
            deadline: on the clock of `time.monotonic`; items that still wait then are never executed.

        Raises:
            Overloaded: `max_queue_items` would be exceeded; nothing was queued.
            Draining: the batcher is stopping; nothing was queued.
            DeadlineExceeded: the deadline passed in the queue.
            EngineFailed: `predict` raised, or broke its promise.
        """
        if self._draining:
            raise Draining("the server is stopping; retry elsewhere")
        if self._queued_items + len(items) > self._max_queue_items:
            raise Overloaded(
                f"the queue is full: {self._queued_items} of {self._max_queue_items} wait, {len(items)} more came",
                retry_after_seconds=max(0.001, self._seconds_per_item * self._queued_items),
            )
        now = time.monotonic()
        future = asyncio.get_running_loop().create_future
        entries = [
            _Entry(items[start : start + self._max_batch_size], future(), now, deadline)
            for start in range(0, len(items), self._max_batch_size)
        ]
        self._entries.extend(entries)
        self._queued_items += len(items)
        self._changed.set()
        if len(entries) == 1:
            return await entries[0].answer
        return _joined(await _all_or_none([entry.answer for entry in entries]))

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as batches:
            while self._entries or not self._draining:
                departure = self._departure()
                if not isinstance(departure, DispatchReason):
                    await self._change(departure)
                elif batch := self._take():
                    self._under_way += 1
                    batches.create_task(self._execute(batch, departure))

    def _departure(self) -> DispatchReason | float | None:
        """Return why a batch leaves now; or the seconds until one must; or None: when something changes."""
        if not self._entries:
            return None
        if self._queued_items >= self._max_batch_size:
            return DispatchReason.FULL if self._under_way < self._max_batches_under_way else None
        if self._under_way:  # a batch that cannot start yet may as well grow
            return None
        if self._draining:
            return DispatchReason.DRAIN
        if not self._max_queue_delay:
            return DispatchReason.IDLE
        leave_at, reason = self._leave_at()
        remaining = leave_at - time.monotonic()
        return remaining if remaining > 0 else reason

    async def _change(self, within_seconds: float | None) -> None:
        """Return when something was submitted or finished, the drain began, or `within_seconds` passed."""
        self._changed.clear()
        if within_seconds is None:
            await self._changed.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._changed.wait()

    def _leave_at(self) -> tuple[float, DispatchReason]:
        """Return when the waiting batch must leave, counted from its oldest arrival, and why then."""
        delay_ends = self._entries[0].arrived + self._max_queue_delay
        deadlines = [entry.deadline for entry in self._entries if entry.deadline is not None]
        # Leave early enough to be computed in time: the cost of what waits, doubled to be safe.
        cost = 2 * self._seconds_per_item * self._queued_items + _TIMER_SECONDS
        urgent = min(deadlines, default=float("inf")) - cost
        return (urgent, DispatchReason.DEADLINE) if urgent < delay_ends else (delay_ends, DispatchReason.DELAY)

    def _take(self) -> list[_Entry[Item, Result]]:
        """Remove the next batch from the queue, without those that nobody waits for or that are too late."""
        batch: list[_Entry[Item, Result]] = []
        size = 0
        now = time.monotonic()
        while self._entries and size + len(self._entries[0].items) <= self._max_batch_size:
            entry = self._entries.popleft()
            self._queued_items -= len(entry.items)
            if entry.answer.done():  # the caller went away
                continue
            if entry.deadline is not None and entry.deadline <= now:
                entry.answer.set_exception(DeadlineExceeded("the deadline passed in the queue; nothing was computed"))
                continue
            batch.append(entry)
            size += len(entry.items)
        return batch

    async def _execute(self, batch: list[_Entry[Item, Result]], reason: DispatchReason) -> None:
        """Compute a batch and answer its callers. Never raises: the loop goes on whatever happens."""
        items = [item for entry in batch for item in entry.items]
        started = time.monotonic()
        try:
            results = await self._predict(items)
            if len(results) != len(items):
                raise EngineFailed(f"expected {len(items)} results, got {len(results)}")
        except Exception:  # noqa: BLE001  # the loop outlives whatever a model raises
            _log.exception("the forward pass of a batch of %d failed", len(items))
            for entry in batch:
                if not entry.answer.done():
                    entry.answer.set_exception(EngineFailed("the model failed on this batch"))
            return
        finally:
            self._under_way -= 1
            self._changed.set()
        compute_seconds = time.monotonic() - started
        self._seconds_per_item += 0.2 * (compute_seconds / len(items) - self._seconds_per_item)
        start = 0
        for entry in batch:
            stop = start + len(entry.items)
            if not entry.answer.done():  # the caller may have gone away meanwhile
                waited = started - entry.arrived
                entry.answer.set_result(Answer(results[start:stop], waited, compute_seconds, len(items)))
            start = stop
        self._observe(
            BatchRecord(len(items), reason, compute_seconds, tuple(started - entry.arrived for entry in batch))
        )


async def _all_or_none(answers: list[asyncio.Future[Answer[Result]]]) -> list[Answer[Result]]:
    """Wait for all; when one fails or the caller leaves, nobody waits for the others any more."""
    try:
        return await asyncio.gather(*answers)
    except BaseException:
        for answer in answers:
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # mark as seen: the first failure is the one that is raised
        raise


def _joined(answers: list[Answer[Result]]) -> Answer[Result]:
    """One answer for a request that was computed in several batches; it waited until the last began."""
    last = answers[-1]
    results = [result for answer in answers for result in answer.results]
    return Answer(results, last.queue_seconds, last.compute_seconds, last.batch_size)
