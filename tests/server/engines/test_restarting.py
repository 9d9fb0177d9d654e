import asyncio
from collections.abc import Callable, Sequence
from typing import Self

import pytest

from server.engines import EngineInfo, Pixels, Scores
from server.engines.local import Death
from server.engines.restarting import MAX_RESTARTS, RestartingEngine
from server.errors import EngineLost, StartError
from tests.polling import eventually

DIED = Death("its process died", fatal=False)
PICTURE: Pixels = bytes(3072)


class FakeLocalEngine:
    """Answers with its number; `die` ends it.

    Attributes:
        refuses_to_start: raised when it is entered.
    """

    info = EngineInfo(device="fake", precision="fp32", layout="channels_last", batch_seconds={})

    def __init__(self, number: int, die: Callable[[Death], None], measured: EngineInfo | None) -> None:
        self.number = number
        self.die = die
        self.measured = measured
        self.left = False
        self.refuses_to_start: Exception | None = None

    async def __aenter__(self) -> Self:
        if self.refuses_to_start:
            raise self.refuses_to_start
        return self

    async def __aexit__(self, *_: object) -> None:
        assert not self.left, "left twice"
        self.left = True

    async def predict(self, images: Sequence[Pixels]) -> list[Scores]:
        return [Scores([self.number], [1.0])] * len(images)


class Nursery:
    """Makes engines and keeps them, and what their owner was told."""

    def __init__(self) -> None:
        self.engines: list[FakeLocalEngine] = []
        self.failures: list[str] = []
        self.restarts = 0
        self.next_refuses: Exception | None = None

    def make(self, die: Callable[[Death], None], measured: EngineInfo | None) -> FakeLocalEngine:
        engine = FakeLocalEngine(len(self.engines), die, measured)
        engine.refuses_to_start = self.next_refuses
        self.engines.append(engine)
        return engine

    def count(self) -> None:
        self.restarts += 1

    def restarting(self) -> RestartingEngine:
        return RestartingEngine(self.make, on_restart=self.count, on_failure=self.failures.append)  # type: ignore[arg-type]  # it stands in


async def answered_by(engine: RestartingEngine) -> int:
    [scores] = await engine.predict([PICTURE])
    return scores.indices[0]


async def test_next_process_takes_over() -> None:
    """Who comes while no process runs waits for the next one, which need not measure again; the old one is left."""
    nursery = Nursery()
    async with nursery.restarting() as engine:
        nursery.engines[0].die(DIED)

        assert await answered_by(engine) == 1
    assert nursery.engines[0].left
    assert nursery.engines[1].measured is FakeLocalEngine.info
    assert (nursery.restarts, nursery.failures) == (1, [])


async def test_restarts_are_bounded() -> None:
    """One death too many within the time is told to the owner, and callers fail at once."""
    nursery = Nursery()
    async with nursery.restarting() as engine:
        for number in range(MAX_RESTARTS):
            nursery.engines[number].die(DIED)
            assert await answered_by(engine) == number + 1
        nursery.engines[-1].die(DIED)
        with pytest.raises(EngineLost):
            await engine.predict([PICTURE])

    assert nursery.failures == ["its process died, 4 times within 60 s"]


async def test_failed_device_is_not_tried_again() -> None:
    """After a failure of the device itself no process is started."""
    nursery = Nursery()
    async with nursery.restarting() as engine:
        nursery.engines[0].die(Death("its device failed", fatal=True))
        with pytest.raises(EngineLost):
            await engine.predict([PICTURE])

    assert nursery.failures == ["its device failed"]
    assert len(nursery.engines) == 1


async def test_process_that_cannot_start_again_is_told() -> None:
    """When the next process cannot start, the owner learns why, and nobody waits."""
    nursery = Nursery()
    async with nursery.restarting() as engine:
        nursery.next_refuses = StartError("no such device")
        nursery.engines[0].die(DIED)
        await eventually(lambda: bool(nursery.failures))
        with pytest.raises(EngineLost):
            await engine.predict([PICTURE])

    assert nursery.failures == ["its process died, and could not be started again: no such device"]


async def test_leaving_while_a_process_starts() -> None:
    """Leaving does not wait for a process that is being started again."""
    nursery = Nursery()
    async with nursery.restarting():
        nursery.engines[0].die(DIED)
        await asyncio.sleep(0)

    assert nursery.engines[0].left
