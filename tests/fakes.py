"""Stand-ins with names: an engine that can be held, broken and counted."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from server.engines import EngineInfo, Pixels, Scores


class FakeEngine:
    """Says that a picture shows the label that its first pixel's red names, modulo 10.

    Attributes:
        batches: the sizes of all batches computed, in order.
        gate: while it is cleared, batches wait.
        failure: raised instead of computing a batch with a guilty picture, when set.
        guilty: the first red values of guilty pictures; empty: every picture is guilty.
    """

    info = EngineInfo(device="fake", precision="fp32", layout="channels_last", batch_seconds={1: 0.001})

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.guilty: set[int] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def predict(self, images: Sequence[Pixels]) -> list[Scores]:
        """See `Engine.predict`."""
        self.batches.append(len(images))
        await self.gate.wait()
        if self.failure is not None and (not self.guilty or self.guilty & {image[0] for image in images}):
            raise self.failure
        return [_certain(image[0] % 10) for image in images]


class FakeEngines:
    """Makes fake engines for versions' folders, and keeps them.

    Attributes:
        made: the folders, as "model/version", in order.
        engines: the last engine made for each of them.
        closed: those whose engine was left, in order.
        loading: while it is cleared, engines do not get ready.
        failures: raised by the engine of a folder, instead of getting ready.
    """

    def __init__(self) -> None:
        self.made: list[str] = []
        self.engines: dict[str, FakeEngine] = {}
        self.closed: list[str] = []
        self.loading = asyncio.Event()
        self.loading.set()
        self.failures: dict[str, Exception] = {}

    def __call__(self, folder: Path) -> FakeEngine:
        name = f"{folder.parent.name}/{folder.name}"
        self.made.append(name)
        self.engines[name] = _RecordedEngine(name, self)
        return self.engines[name]


class _RecordedEngine(FakeEngine):
    def __init__(self, name: str, engines: FakeEngines) -> None:
        super().__init__()
        self._name = name
        self._engines = engines

    async def __aenter__(self) -> Self:
        await self._engines.loading.wait()
        if self._name in self._engines.failures:
            raise self._engines.failures[self._name]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._engines.closed.append(self._name)


def _certain(index: int) -> Scores:
    others = [other for other in range(10) if other != index]
    return Scores(indices=[index, *others], probabilities=[0.91] + [0.01] * 9)


class FakePredict:
    """A `predict` for the batcher: doubles numbers; keeps what it was given.

    Attributes:
        batches: all batches given, in order.
        gate: while it is cleared, batches wait.
        failures: exceptions to raise for the next batches, one each.
    """

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return [2 * item for item in items]
