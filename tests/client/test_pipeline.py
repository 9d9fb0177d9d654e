import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Sequence

import pytest

from client.errors import ClientError, InvalidRequest, ServerUnavailable
from client.pipeline import MAX_BATCH_BYTES, MAX_BATCH_PICTURES, MAX_IN_FLIGHT, Classified, batches, classify
from client.requests import Image
from client.results import Answer, ImageResult, ModelIdentity, Prediction, Timings
from client.sources import Picture, Source

MODEL = ModelIdentity("whitened", 1, "ab" * 32)


class FakePredict:
    """Labels each picture with its bytes; of every four calls the last is answered first.

    Attributes:
        sizes: how many pictures each call had.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._answered: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, images: Sequence[Image]) -> Answer:
        number = len(self.sizes)
        self.sizes.append(len(images))
        if number % MAX_IN_FLIGHT != MAX_IN_FLIGHT - 1:
            await self._answered[number + 1].wait()
        self._answered[number].set()
        return _label(images)


class FailingPredict:
    """Raises its error in the first call; later ones never end, but notice that they are abandoned."""

    def __init__(self, error: ClientError) -> None:
        self.error = error
        self.calls = 0
        self.abandoned = 0

    async def __call__(self, _: Sequence[Image]) -> Answer:
        self.calls += 1
        if self.calls == 1:
            raise self.error
        try:
            await asyncio.Event().wait()
        finally:
            self.abandoned += 1
        raise AssertionError("nobody sets this event")


async def test_answers_keep_the_order_of_the_sources() -> None:
    """Batches that overtake each other do not mix up the pictures, and several are on their way at once."""
    names = [str(number) for number in range(2 * MAX_IN_FLIGHT * MAX_BATCH_PICTURES)]

    classified = await _all(classify(map(_source, names), FakePredict()))

    assert [one.name for one in classified] == names
    assert [one.result.predictions[0].label for one in classified] == names
    assert {one.model for one in classified} == {MODEL}


async def test_sources_are_read_only_so_far_ahead() -> None:
    """However many pictures there are, only a few batches of them are in memory."""
    waiting = most_waiting = 0

    def sources() -> Iterator[Source]:
        nonlocal waiting, most_waiting
        for number in range(5000):
            waiting += 1
            most_waiting = max(most_waiting, waiting)
            yield _source(str(number))

    async for batch in classify(sources(), _predict):
        waiting -= len(batch)

    assert waiting == 0
    assert most_waiting <= MAX_IN_FLIGHT * MAX_BATCH_PICTURES + 1


async def test_unreadable_pictures_keep_their_place() -> None:
    """A picture that was not read is not sent, has its error, and costs its neighbours nothing."""
    sources = [_source("a"), _source("b", error="Permission denied"), _source("c")]

    first, second, third = await _all(classify(sources, _predict))

    assert second == Classified("b", ImageResult((), error="Permission denied"), None)
    assert [one.result.predictions[0].label for one in (first, third)] == ["a", "c"]


async def test_nothing_is_sent_when_nothing_was_read() -> None:
    """A request without pictures would be refused."""
    predict = FakePredict()

    [classified] = await _all(classify([_source("a", error="Permission denied")], predict))

    assert classified.result.error == "Permission denied"
    assert predict.sizes == []


async def test_a_lone_picture_that_is_refused_has_an_error() -> None:
    """The server refuses a request of one bad picture as a whole; for the caller it is that picture's error."""
    [classified] = await _all(classify([_source("a")], FailingPredict(InvalidRequest("not a picture"))))

    assert classified == Classified("a", ImageResult((), error="not a picture"), None)


@pytest.mark.parametrize("error", [InvalidRequest("top_k: expected 1 to 10, got 11"), ServerUnavailable("gone")])
async def test_a_batch_that_fails_ends_everything(error: ClientError) -> None:
    """A failure that is no single picture's is raised, and what is on its way is abandoned."""
    predict = FailingPredict(error)

    with pytest.raises(type(error)):
        await _all(classify([_source(str(number)) for number in range(1000)], predict))

    assert 1 < predict.calls <= MAX_IN_FLIGHT
    assert predict.abandoned == predict.calls - 1


def test_batches_are_bounded_in_number() -> None:
    """Many small pictures share a request, but not too many."""
    sizes = [len(batch) for batch in batches(_source(str(number)) for number in range(300))]

    assert sizes == [MAX_BATCH_PICTURES, MAX_BATCH_PICTURES, 300 - 2 * MAX_BATCH_PICTURES]


def test_batches_are_bounded_in_bytes() -> None:
    """Large pictures fill a request sooner, and one that is larger than a batch goes alone."""
    half, large = bytes(MAX_BATCH_BYTES // 2), bytes(MAX_BATCH_BYTES + 1)
    pictures = {"0": large, "a": half, "b": half, "c": half, "d": large, "e": half}

    names = [[picture.name for picture in batch] for batch in batches(_source(*pair) for pair in pictures.items())]

    assert names == [["0"], ["a", "b"], ["c"], ["d"], ["e"]]


async def _predict(images: Sequence[Image]) -> Answer:
    return _label(images)


def _label(images: Sequence[Image]) -> Answer:
    labels = [image.decode() for image in images if isinstance(image, bytes)]
    results = tuple(ImageResult((Prediction(label, 0, 1.0),)) for label in labels)
    return Answer(results, MODEL, Timings(0, 0, 0, 0, len(results)))


def _source(name: str, data: bytes | None = None, error: str | None = None) -> Source:
    return Source(name, Picture(name, name.encode() if data is None else data, error))


async def _all(answers: AsyncGenerator[list[Classified], None]) -> list[Classified]:
    return [classified async for batch in answers for classified in batch]
