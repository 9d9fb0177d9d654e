from collections.abc import Sequence

import pytest

from server.blame import Blame
from server.errors import DeviceOutOfMemory, EngineDied, EngineFailed, EngineLost, ServingError


class FakeModel:
    """Doubles numbers; fails on guilty ones, and on batches that are too big for its memory."""

    def __init__(self, *, guilty: frozenset[int] = frozenset(), memory: int = 1000) -> None:
        self.guilty = guilty
        self.memory = memory
        self.batches: list[list[int]] = []

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if len(items) > self.memory:
            raise DeviceOutOfMemory("too big")
        if self.guilty.intersection(items):
            raise RuntimeError("secret")
        return [2 * item for item in items]


async def outcomes(
    model: FakeModel, items: Sequence[int], *, known_good: Sequence[int] = (0,)
) -> list[int | ServingError]:
    """What becomes of a batch that the model has just failed on."""
    with pytest.raises((RuntimeError, ServingError)) as failure:
        await model(items)
    model.batches.clear()
    return await Blame(model, known_good=known_good).outcomes(items, failure.value)


async def test_only_the_guilty_fail() -> None:
    """Every innocent item of a failed batch is computed, every guilty one has an error that tells no internals."""
    found = await outcomes(FakeModel(guilty=frozenset({3, 11})), range(1, 17))

    for item, outcome in zip(range(1, 17), found, strict=True):
        if item in {3, 11}:
            assert isinstance(outcome, EngineFailed)
            assert str(outcome) == "the model failed on this picture"
        else:
            assert outcome == 2 * item


async def test_one_guilty_item_is_found_by_halving() -> None:
    """One guilty item among 64 costs the proof of the engine and two passes for each halving."""
    model = FakeModel(guilty=frozenset({17}))
    await outcomes(model, range(1, 65))

    assert len(model.batches) == 1 + 2 * 6


async def test_an_engine_that_fails_on_the_known_is_broken() -> None:
    """When the engine fails on what it computed before, no item is blamed and nothing is split."""
    model = FakeModel(guilty=frozenset(range(100)))
    with pytest.raises(EngineDied, match="it fails on a picture that it has computed before"):
        await outcomes(model, range(1, 65))

    assert model.batches == [[0]]


async def test_a_batch_that_does_not_fit_is_halved() -> None:
    """Out of memory costs nobody the answer as long as a part fits."""
    model = FakeModel(memory=4)
    found = await outcomes(model, range(1, 17))

    assert found == [2 * item for item in range(1, 17)]
    assert [len(batch) for batch in model.batches] == [8, 4, 4, 8, 4, 4]


async def test_an_item_that_never_fits_fails() -> None:
    """An item alone that does not fit has the error of the memory."""
    [found] = await outcomes(FakeModel(memory=0), [1])

    assert isinstance(found, DeviceOutOfMemory)


async def test_a_lost_engine_is_nobodys_fault() -> None:
    """When the engine's process ended, its items fail with that, and are not tried again one by one."""
    lost = EngineLost("the engine's process died")
    model = FakeModel()

    assert await Blame(model, known_good=[0]).outcomes([1, 2], lost) == [lost, lost]
    assert model.batches == []
