"""Dynamic batching: many callers, one forward pass. Knows no protocol and no framework."""

import asyncio
import collections
import contextlib
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from server.batches import Answer, BatchRecord, DispatchReason, PassFailure
from server.blame import Blame
from server.errors import (
    DeadlineExceeded,
    DeviceOutOfMemory,
    Draining,
    EngineDied,
    EngineFailed,
    EngineLost,
    ServingError,
)
from server.room import Reservation, Room

Item = TypeVar("Item")
Result = TypeVar("Result")
_Outcome = TypeVar("_Outcome")

_LONG_PASS_SECONDS = 0.005  # ten times what handing a batch over costs
_TIMER_SECONDS = 0.005  # how late an event loop's timer may be
_WEIGHT_OF_THE_NEWEST = 0.2
_POLL_SECONDS = 0.005
_STALL_CHECKS = 4  # in the time after which an engine counts as stuck


@dataclass(slots=True)
class _Entry(Generic[Item, Result]):
    """Items of one caller that stay together in one batch; the answer travels with them."""

    items: Sequence[Item]
    answer: asyncio.Future[Answer[Result]]
    arrived: float
    deadline: float | None
    waits: bool = True


class Batcher(Generic[Item, Result]):
    """Turn concurrent `submit` calls into calls of `predict` on a batch.

    A batch leaves the moment the engine is free, with everything that waits, up to `max_batch_size`
    items. With a positive `max_queue_delay_seconds` it first waits for more, until it is full, until
    that long after its oldest item *arrived*, or until a caller's deadline comes near.

    A batch that fails is split until the guilty items are found; the others are answered. When the
    engine is at fault, or does nothing for `max_stall_seconds`, all that waits fails and `on_broken`
    is told: the batcher is of no use any more.

    Entering starts the loop. Leaving refuses new work, answers everything accepted, and stops.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        max_batch_size: int,
        max_queue_delay_seconds: float = 0.0,
        max_queue_items: int,
        max_queue_bytes: int = 2**63,
        max_batches_under_way: int = 1,
        lanes: int = 1,
        pass_seconds: Callable[[int], float] = lambda _: 0.0,
        max_stall_seconds: float = 60.0,
        known_good: Sequence[Item] = (),
        observe: Callable[[BatchRecord], None],
        on_broken: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Set the bounds.

        Args:
            predict: returns as many results as it gets items.
            max_batch_size: most items in one call of `predict`.
            max_queue_delay_seconds: see the class.
            max_queue_items: most items that may be made ready or wait.
            max_queue_bytes: most bytes of requests that may be held until they are answered.
            max_batches_under_way: how many calls of `predict` may run at once. All but the first are
                full batches: those cannot grow any more, so nothing is lost by handing them over early.
            lanes: how many calls of `predict` are computed side by side. A batch that is not full begins
                beside another one only where passes are long.
            pass_seconds: what one call of `predict` with so many items costs, as measured before.
            max_stall_seconds: an engine that has work and finishes none for so long is stuck.
            known_good: items that `predict` is known to compute; when a batch fails they tell whether
                the engine is at fault or an item.
            observe: is told of each forward pass; must not raise or block.
            on_broken: is told once why the engine is of no use any more.
        """
        self._predict = predict
        self._max_batch_size = max_batch_size
        self._max_queue_delay = max_queue_delay_seconds
        self._room = Room(
            max_items=max_queue_items, max_bytes=max_queue_bytes, seconds_to_compute=self._seconds_to_compute
        )
        self._max_batches_under_way = max_batches_under_way
        self._lanes = lanes
        self._pass_seconds = pass_seconds
        self._max_stall = max_stall_seconds + max_queue_delay_seconds
        self._blame = Blame(self._pass_of_part, known_good=known_good)
        self._observe = observe
        self._on_broken = on_broken
        self._under_way = 0
        self._entries: collections.deque[_Entry[Item, Result]] = collections.deque()
        self._queued_items = 0
        self._seconds_per_item = 0.0
        self._changed = asyncio.Event()
        self._draining = False
        self._closed = False
        self._broken = ""
        self._progressed = 0.0
        self._executing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._loop_task = asyncio.create_task(self._run(), name="batcher")
        self._watchdog_task = asyncio.create_task(self._watch(), name="batcher's watchdog")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._draining = True
        self._changed.set()
        while self._room.items > self._queued_items:  # noqa: ASYNC110  # what is being made ready was accepted too
            await asyncio.sleep(_POLL_SECONDS)
        self._closed = True
        self._changed.set()
        await self._loop_task
        self._watchdog_task.cancel()

    @property
    def queued_items(self) -> int:
        """Items that wait for a batch."""
        return self._queued_items

    def reserve(self, items: int, *, size_bytes: int = 0) -> Reservation:
        """Return room for items that are still being made ready; enter it, and `submit` inside.

        Args:
            items: at least one.
            size_bytes: of their request; held until the block is left.

        Raises:
            Overloaded: a bound would be exceeded; nothing was queued.
            Draining: the batcher is stopping; nothing was queued.
            EngineLost: the engine is of no use any more.
        """
        if self._broken:
            raise EngineLost(self._broken)
        if self._draining:
            raise Draining("the server is stopping; retry elsewhere")
        return self._room.reserve(items, size_bytes=size_bytes)

    async def submit(
        self, items: Sequence[Item], *, deadline: float | None = None, reservation: Reservation | None = None
    ) -> Answer[Result]:
        """Return the results of `items`, computed together with other callers' items.

        More than `max_batch_size` items are computed in several batches.

        Args:
            items: at least one.
            deadline: on the clock of `time.monotonic`; items that still wait then are never executed.
            reservation: room for at least as many items; without one, room is reserved here.

        Raises:
            Overloaded: a bound would be exceeded; nothing was queued.
            Draining: the batcher is stopping; nothing was queued.
            DeadlineExceeded: the deadline passed in the queue.
            EngineFailed: `predict` raised for every one of the items, or broke its promise.
            DeviceOutOfMemory: not one of the items fits into the device's memory.
            EngineLost: the engine ended, or is stuck; another try may succeed.
        """
        if reservation is None:
            with self.reserve(len(items)) as own:
                return await self.submit(items, deadline=deadline, reservation=own)
        if self._broken:
            raise EngineLost(self._broken)
        self._room.release_items(reservation.items - len(items))
        reservation.items = 0
        now = time.monotonic()
        future = asyncio.get_running_loop().create_future
        entries = [
            _Entry(items[start : start + self._max_batch_size], future(), now, deadline)
            for start in range(0, len(items), self._max_batch_size)
        ]
        self._entries.extend(entries)
        self._queued_items += len(items)
        self._changed.set()
        try:
            answer = await (entries[0].answer if len(entries) == 1 else _all_together(entries))
        except BaseException:
            for entry in entries:  # the caller went away, or nothing is left to compute for it
                self._withdraw(entry)
            raise
        if not answer.results:
            raise answer.failures[0]
        return answer

    def _seconds_to_compute(self, items: int) -> float:
        """Expect what was measured; but an engine that has been busy for longer than that is slow today."""
        busy = time.monotonic() - self._progressed if self._under_way else 0.0
        return max(self._seconds_per_item * items, busy)

    def _withdraw(self, entry: _Entry[Item, Result]) -> None:
        """Make the room of an entry that still waits free at once; the loop passes over it."""
        if not entry.answer.cancel() and not entry.answer.cancelled():
            entry.answer.exception()  # mark as seen: one failure is the one that is raised
        self._dequeue(entry)

    def _dequeue(self, entry: _Entry[Item, Result]) -> None:
        """Take note, once, that an entry does not wait any more."""
        if entry.waits:
            entry.waits = False
            self._queued_items -= len(entry.items)
            self._room.release_items(len(entry.items))

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as batches:
            while self._entries or not self._closed:
                departure = self._departure()
                if not isinstance(departure, DispatchReason):
                    await self._change(departure)
                elif batch := self._take():
                    self._under_way += 1
                    task = batches.create_task(self._execute(batch, departure))
                    self._executing.add(task)
                    task.add_done_callback(self._executing.discard)

    def _departure(self) -> DispatchReason | float | None:
        """Return why a batch leaves now; or the seconds until one must; or None: when something changes."""
        if not self._entries:
            return None
        if self._queued_items >= self._max_batch_size:
            return DispatchReason.FULL if self._under_way < self._max_batches_under_way else None
        if self._under_way and not (self._under_way < self._lanes and self._is_long(self._queued_items)):
            return None  # a batch that cannot start yet, or is done before a second one has begun, may as well grow
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

    def _share(self) -> int:
        """Return how many items the next batch takes: all that fit; but idle lanes share the work of a long pass."""
        idle_lanes = self._lanes - self._under_way
        if idle_lanes < 2 or not self._is_long(self._queued_items):  # noqa: PLR2004  # nobody to share with
            return self._max_batch_size
        return min(self._max_batch_size, math.ceil(self._queued_items / idle_lanes))

    def _is_long(self, items: int) -> bool:
        return self._pass_seconds(min(items, self._max_batch_size)) >= _LONG_PASS_SECONDS

    def _take(self) -> list[_Entry[Item, Result]]:
        """Remove the next batch from the queue, without those that nobody waits for or that are too late."""
        batch: list[_Entry[Item, Result]] = []
        size, share = 0, self._share()
        now = time.monotonic()
        while self._entries and (not batch or size + len(self._entries[0].items) <= share):
            entry = self._entries.popleft()
            self._dequeue(entry)
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
        if self._under_way == 1:
            self._progressed = started
        waits = tuple(started - entry.arrived for entry in batch)
        try:
            results = await self._pass(items, reason, waits)
            compute_seconds = time.monotonic() - started
            self._seconds_per_item += _WEIGHT_OF_THE_NEWEST * (
                compute_seconds / len(items) / self._under_way - self._seconds_per_item
            )
            for entry, part in _parts(batch, results):
                entry.answer.set_result(Answer(part, started - entry.arrived, compute_seconds, len(items)))
        except Exception as failure:  # noqa: BLE001  # the loop outlives whatever a model raises
            await self._answer_one_by_one(batch, items, failure, started)
        except asyncio.CancelledError:  # only `_give_up` does that
            _fail(batch, self._broken)
        finally:
            self._under_way -= 1
            self._progressed = time.monotonic()
            self._changed.set()

    async def _answer_one_by_one(
        self, batch: list[_Entry[Item, Result]], items: Sequence[Item], failure: Exception, started: float
    ) -> None:
        """Find out what became of each item of a batch that failed, and answer its callers."""
        try:
            outcomes = await self._blame.outcomes(items, failure)
        except EngineDied as exc:
            self._give_up(str(exc))
            _fail(batch, self._broken)
            return
        except EngineLost as exc:
            _fail(batch, str(exc))
            return
        compute_seconds = time.monotonic() - started
        for entry, part in _parts(batch, outcomes):
            failures = {place: outcome for place, outcome in enumerate(part) if isinstance(outcome, ServingError)}
            results = [outcome for outcome in part if not isinstance(outcome, ServingError)]
            waited = started - entry.arrived
            entry.answer.set_result(Answer(results, waited, compute_seconds, len(items), failures))

    async def _pass(
        self, items: Sequence[Item], reason: DispatchReason, waits: tuple[float, ...] = ()
    ) -> Sequence[Result]:
        """Compute once; the observer is told how that went."""
        started = time.monotonic()
        failure = PassFailure.LOST
        try:
            results = await self._predict(items)
            if len(results) != len(items):
                raise EngineFailed(f"expected {len(items)} results, got {len(results)}")
            failure = PassFailure.NONE
        except EngineLost:
            raise
        except DeviceOutOfMemory:
            failure = PassFailure.OUT_OF_MEMORY
            raise
        except Exception:
            failure = PassFailure.ERROR
            raise
        finally:
            self._observe(BatchRecord(len(items), reason, time.monotonic() - started, waits, failure))
        return results

    async def _pass_of_part(self, items: Sequence[Item]) -> Sequence[Result]:
        try:
            return await self._pass(items, DispatchReason.SPLIT)
        finally:
            self._progressed = time.monotonic()

    async def _watch(self) -> None:
        """Give up when there is work and none is finished for too long."""
        self._progressed = time.monotonic()
        while not self._broken:
            await asyncio.sleep(self._max_stall / _STALL_CHECKS)
            if not (self._entries or self._under_way):
                self._progressed = time.monotonic()
            elif time.monotonic() - self._progressed > self._max_stall:
                self._give_up(f"it has finished nothing for {self._max_stall:g} s")

    def _give_up(self, reason: str) -> None:
        """The engine is of no use any more: nobody waits in vain."""
        if self._broken:
            return
        self._broken = f"the engine failed: {reason}"
        _fail(self._entries, self._broken)
        for task in self._executing:
            if task is not asyncio.current_task():
                task.cancel()
        self._changed.set()
        self._on_broken(reason)


def _parts(
    batch: list[_Entry[Item, Result]], outcomes: Sequence[_Outcome]
) -> Iterator[tuple[_Entry[Item, Result], Sequence[_Outcome]]]:
    """Yield each caller that still waits with its part of the outcomes."""
    start = 0
    for entry in batch:
        stop = start + len(entry.items)
        if not entry.answer.done():  # the caller may have gone away meanwhile
            yield entry, outcomes[start:stop]
        start = stop


def _fail(entries: Iterable[_Entry[Item, Result]], reason: str) -> None:
    for entry in entries:
        if not entry.answer.done():
            entry.answer.set_exception(EngineLost(reason))


async def _all_together(entries: Sequence[_Entry[Item, Result]]) -> Answer[Result]:
    """One answer for a request that is computed in several batches; it waited until the last began."""
    answers = await asyncio.gather(*(entry.answer for entry in entries))
    last = answers[-1]
    starts = itertools.accumulate((len(entry.items) for entry in entries[:-1]), initial=0)
    return Answer(
        [result for answer in answers for result in answer.results],
        last.queue_seconds,
        last.compute_seconds,
        last.batch_size,
        {
            start + place: error
            for start, answer in zip(starts, answers, strict=True)
            for place, error in answer.failures.items()
        },
    )
