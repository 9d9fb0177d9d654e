import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from server.decoding import Decoder, RawPicture
from server.errors import InvalidImage, Overloaded, ServingError
from server.images import ImageLimits
from server.metrics import Metrics
from server.prediction import Predictor
from server.served import BatchLimits, ServedModel, serve_version
from tests.conftest import make_card
from tests.fakes import FakeEngine

LIMITS = BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=4)
BAD = RawPicture(b"bad!")


@dataclass
class Bench:
    """A predictor in front of one served model with a fake engine."""

    predictor: Predictor
    served: ServedModel
    engine: FakeEngine
    metrics: Metrics


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    engine, metrics = FakeEngine(), Metrics()
    served = await serve_version(
        make_card("quick", "quick", 1, "0" * 64),
        engine,
        limits=LIMITS,
        observe=lambda record: None,  # noqa: ARG005
        on_broken=lambda reason: None,  # noqa: ARG005
    )
    with Decoder(threads=1, limits=ImageLimits(max_bytes=10**6, max_pixels=10**6)) as decoder:
        yield Bench(Predictor(decoder, metrics), served, engine, metrics)
    await served.close()


def picture(label: int) -> RawPicture:
    return RawPicture(bytes([label]) * 3072)


async def test_outcomes_are_in_the_order_of_the_pictures(bench: Bench) -> None:
    """A picture that cannot be read and one that the model fails on have their errors in their places."""
    bench.engine.failure, bench.engine.guilty = RuntimeError("inside"), {7}
    predicted = await bench.predictor.predict(bench.served, [picture(1), BAD, picture(7), picture(2)], deadline=None)

    assert [type(outcome) for outcome in predicted.outcomes[::3]] == [bytes, bytes]
    assert isinstance(predicted.outcomes[1], InvalidImage)
    assert isinstance(predicted.outcomes[2], ServingError)
    assert predicted.answer is not None
    assert [scores.indices[0] for scores in predicted.answer.results] == [1, 2]


async def test_answered_request_is_counted_with_its_stages(bench: Bench) -> None:
    """A request all of whose pictures are answered counts once in the version's statistics."""
    await bench.predictor.predict(bench.served, [picture(1), picture(2)], deadline=None)
    await asyncio.sleep(0)

    counted = bench.served.statistics
    assert (counted.answered.count, counted.failed.count, counted.images) == (1, 0, 2)
    assert 0 < counted.compute_seconds <= counted.answered.seconds


async def test_request_with_a_bad_picture_counts_as_failed(bench: Bench) -> None:
    """A request of which a picture was not answered, or none, is no success."""
    await bench.predictor.predict(bench.served, [picture(1), BAD], deadline=None)
    await bench.predictor.predict(bench.served, [BAD], deadline=None)
    await asyncio.sleep(0)

    counted = bench.served.statistics
    assert (counted.answered.count, counted.failed.count, counted.images) == (0, 2, 1)


async def test_refused_request_counts_as_failed(bench: Bench) -> None:
    """A request that finds no room fails, in the statistics too."""
    with pytest.raises(Overloaded):
        await bench.predictor.predict(bench.served, [picture(1)] * 5, deadline=None)

    assert bench.served.statistics.failed.count == 1
    assert bench.engine.batches == []
