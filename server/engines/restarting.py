"""An engine that is started again when its process ends by itself. Knows no process and no framework."""

import asyncio
import collections
import time
from collections.abc import Callable, Sequence
from typing import Self

import structlog

from models.errors import ModelError
from server.engines import EngineInfo, Pixels, Scores
from server.engines.local import Death, LocalEngine
from server.errors import EngineLost, StartError

MAX_RESTARTS = 3
WITHIN_SECONDS = 60.0

_log = structlog.get_logger(__name__)


class RestartingEngine:
    """Computes with one process at a time; what a process that died had begun fails with `EngineLost`.

    Batches that come while the next process starts wait for it. After `MAX_RESTARTS` within
    `WITHIN_SECONDS`, or when the device itself has failed, the owner is told instead.
    """

    def __init__(
        self,
        make: Callable[[Callable[[Death], None], EngineInfo | None], LocalEngine],
        *,
        on_restart: Callable[[], None],
        on_failure: Callable[[str], None],
    ) -> None:
        """Nothing runs before the engine is entered.

        Args:
            make: returns an engine that tells its death to the first argument; the second is what an
                earlier process has measured, so that the next need not.
            on_restart: is told of each process that is started again.
            on_failure: is told once why no further process is started.
        """
        self._make = make
        self._on_restart = on_restart
        self._on_failure = on_failure
        self._deaths: collections.deque[float] = collections.deque(maxlen=MAX_RESTARTS + 1)
        self._failure = ""
        self._entered = False
        self._settled = asyncio.Event()  # a process runs, or none ever will
        self._restarting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the first process; raises as `LocalEngine` does."""
        await self._enter(self._make(self._on_death, None))
        self._info = self._engine.info
        self._settled.set()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process."""
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.wait({self._restarting})
        await self._leave()

    @property
    def info(self) -> EngineInfo:
        """How the first process computes; the later ones do the same."""
        return self._info

    @property
    def pid(self) -> int:
        """The number of the process that runs, or ran last."""
        return self._engine.pid

    async def predict(self, images: Sequence[Pixels]) -> list[Scores]:
        """Return the scores of each picture: see `Engine.predict`."""
        await self._settled.wait()
        if self._failure:
            raise EngineLost(self._failure)
        return await self._engine.predict(images)

    async def _enter(self, engine: LocalEngine) -> None:
        self._engine = await engine.__aenter__()
        self._entered = True

    async def _leave(self) -> None:
        """Leave the engine that was entered, once."""
        if self._entered:
            self._entered = False
            await self._engine.__aexit__()

    def _on_death(self, death: Death) -> None:
        self._settled.clear()
        self._deaths.append(time.monotonic())
        if death.fatal:
            self._give_up(death.reason)
        elif len(self._deaths) > MAX_RESTARTS and self._deaths[-1] - self._deaths[0] < WITHIN_SECONDS:
            self._give_up(f"{death.reason}, {MAX_RESTARTS + 1} times within {WITHIN_SECONDS:g} s")
        else:
            self._restarting = asyncio.create_task(self._restart(death.reason))

    async def _restart(self, reason: str) -> None:
        started = time.monotonic()
        await self._leave()
        try:
            await self._enter(self._make(self._on_death, self._info))
        except (ModelError, StartError) as exc:
            self._give_up(f"{reason}, and could not be started again: {exc}")
            return
        _log.warning("engine restarted", reason=reason, seconds=round(time.monotonic() - started, 3))
        self._on_restart()
        self._settled.set()

    def _give_up(self, reason: str) -> None:
        self._failure = f"the engine failed: {reason}"
        self._settled.set()
        self._on_failure(reason)
