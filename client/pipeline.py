"""Any number of pictures through one client: in batches, several at a time, in order. Knows no gRPC."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass

from client.errors import InvalidRequest
from client.progress import progress_bar
from client.requests import Image
from client.results import Answer, ImageResult, ModelIdentity
from client.sources import PathName, Picture, Source, sources_of

MAX_BATCH_PICTURES = 128
MAX_BATCH_BYTES = 4 * 2**20  # a larger picture is sent alone
MAX_IN_FLIGHT = 4

Predict = Callable[[Sequence[Image]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Classified:
    """What was said about one picture.

    Attributes:
        name: the path of its file, or "-" for standard input.
        result: its predictions, or why there are none.
        model: who computed it; None when nobody did.
    """

    name: str
    result: ImageResult
    model: ModelIdentity | None


async def classify_files(
    files: PathName | Iterable[PathName], predict: Predict, *, show_progress: bool
) -> AsyncGenerator[list[Classified], None]:
    """Yield what `predict` says about the pictures in `files`, batch by batch, in their order.

    Args:
        files: a file, a folder, or any number of both; see `client.sources.sources_of`.
        predict: classifies one batch.
        show_progress: show a bar on standard error, if that is a terminal.

    Raises:
        PictureMissing: see `client.sources.sources_of`.
        ClientError: as `classify` does.
    """
    sources = await asyncio.to_thread(sources_of, files)
    total = len(sources) if isinstance(sources, Sized) else None
    with progress_bar(total, visible=show_progress) as advance:
        async with contextlib.aclosing(classify(sources, predict)) as answers:
            async for batch in answers:
                yield batch
                advance(len(batch))


async def classify(sources: Iterable[Source], predict: Predict) -> AsyncGenerator[list[Classified], None]:
    """Yield what `predict` says about every source, batch by batch, in the order of the sources.

    At most `MAX_IN_FLIGHT` batches are in memory or on their way, however many sources there are. A
    picture that cannot be read or is refused has a result with an error; the others go on.

    Raises:
        ClientError: a whole batch failed; the batches behind it are abandoned.
    """
    unread = batches(sources)
    in_flight: deque[asyncio.Task[list[Classified]]] = deque()
    try:
        # Files are read in a thread: what is on its way goes on meanwhile.
        while (batch := await asyncio.to_thread(next, unread, None)) is not None:
            in_flight.append(asyncio.create_task(_classify_batch(batch, predict)))
            if len(in_flight) == MAX_IN_FLIGHT:
                yield await in_flight.popleft()
        while in_flight:
            yield await in_flight.popleft()
    finally:
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)


def batches(sources: Iterable[Source]) -> Iterator[list[Picture]]:
    """Read the sources, and yield them in lists of at most `MAX_BATCH_PICTURES` and `MAX_BATCH_BYTES`."""
    batch: list[Picture] = []
    size = 0
    for picture in (source.read() for source in sources):
        if batch and (len(batch) == MAX_BATCH_PICTURES or size + len(picture.data) > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(picture)
        size += len(picture.data)
    if batch:
        yield batch


async def _classify_batch(batch: list[Picture], predict: Predict) -> list[Classified]:
    images = [picture.data for picture in batch if picture.error is None]
    results, model = await _predict(images, predict)
    answered = iter(results)
    return [
        Classified(picture.name, ImageResult((), picture.error), None)
        if picture.error is not None
        else Classified(picture.name, next(answered), model)
        for picture in batch
    ]


async def _predict(images: list[bytes], predict: Predict) -> tuple[Sequence[ImageResult], ModelIdentity | None]:
    if not images:
        return (), None
    try:
        answer = await predict(images)
    except InvalidRequest as exc:
        if len(images) > 1:
            raise
        return (ImageResult((), str(exc)),), None  # the server refuses a lone picture as a whole
    return answer.results, answer.model
