import asyncio
from collections.abc import Sequence

import pytest

from server.engines import Pixels, Scores
from server.errors import Draining, EngineFailed
from server.served import BatchLimits, ServedModel, serve_version
from tests.conftest import make_card
from tests.fakes import FakeEngine
from tests.polling import eventually

PICTURE = bytes(3072)


class ClosableEngine(FakeEngine):
    """Says whether it was left.

    Attributes:
        closed: whether it was.
    """

    closed = False

    async def __aexit__(self, *_: object) -> None:
        self.closed = True

    async def predict(self, images: Sequence[Pixels]) -> list[Scores]:
        if self.closed:
            raise EngineFailed("it was left")
        return await super().predict(images)


@pytest.fixture
def engine() -> ClosableEngine:
    return ClosableEngine()


async def serve(engine: FakeEngine) -> ServedModel:
    limits = BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8)
    return await serve_version(
        make_card("quick", "quick", 1, "0" * 64),
        engine,
        limits=limits,
        observe=lambda record: None,  # noqa: ARG005
        on_broken=lambda reason: None,  # noqa: ARG005
    )


async def test_users_keep_it_open(engine: ClosableEngine) -> None:
    """It is closed when the last of its users has left, and each of them may submit until then."""
    served = await serve(engine)
    with served:
        with served:
            closing = asyncio.create_task(served.close())
            await asyncio.sleep(0)
        answer = await served.batcher.submit([PICTURE])
        assert not engine.closed
    await closing

    assert len(answer.results) == 1
    assert engine.closed


async def test_queued_work_is_answered_before_the_engine_is_freed(engine: ClosableEngine) -> None:
    """What waits in the queue when it is closed is still computed."""
    served = await serve(engine)
    engine.gate.clear()
    answers = [asyncio.create_task(served.batcher.submit([PICTURE] * 2)) for _ in range(4)]
    await eventually(lambda: bool(engine.batches))
    closing = asyncio.create_task(served.close())
    await asyncio.sleep(0)
    engine.gate.set()

    assert [len((await answer).results) for answer in answers] == [2] * 4
    await closing
    with pytest.raises(Draining):
        await served.batcher.submit([PICTURE])


async def test_closing_goes_on_when_its_caller_leaves(engine: ClosableEngine) -> None:
    """Whoever closes it may be cancelled: it is closed nevertheless, and once."""
    served = await serve(engine)
    with served:
        closing = asyncio.create_task(served.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
    await served.close()
    await served.close()

    assert closing.cancelled()
    assert engine.closed
