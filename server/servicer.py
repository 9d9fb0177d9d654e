"""The typed door: `cifarserve.v1.ClassifierService`. Translation only: convert, call, convert."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from server import conversions
from server.catalog import Catalog
from server.decoding import Decoded, Decoder
from server.errors import Draining, ServingError
from server.metrics import Metrics, PredictRecord
from server.served import ServedModel
from server.telemetry.record import CURRENT

_STREAM_WINDOW = 256  # requests of one stream that are worked on at once; then reading waits

if TYPE_CHECKING:
    import grpc

    _Context = grpc.aio.ServicerContext[pb.PredictRequest, pb.PredictResponse]


class ClassifierServicer(classifier_pb2_grpc.ClassifierServiceServicer):
    """Answers the RPCs of the contract. Raises `ServingError`; the interceptor makes statuses of it."""

    def __init__(self, catalog: Catalog, decoder: Decoder, metrics: Metrics, *, max_images: int) -> None:
        self._catalog = catalog
        self._decoder = decoder
        self._metrics = metrics
        self._max_images = max_images
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Let every stream answer what it has accepted, then end it with UNAVAILABLE."""
        self._draining.set()

    async def Predict(self, request: pb.PredictRequest, context: _Context) -> pb.PredictResponse:
        """Classify one or many pictures."""
        return await self._predict(request, deadline=_deadline_of(context))

    async def PredictStream(  # type: ignore[override]  # answers are written to the context, not yielded
        self, requests: AsyncIterable[pb.PredictRequest], context: _Context
    ) -> None:
        """Classify request after request; each is answered when it is finished."""
        async with _one_error(), asyncio.TaskGroup() as group:
            reading = group.create_task(self._read_stream(requests, context))
            draining = group.create_task(self._draining.wait())
            await asyncio.wait({reading, draining}, return_when=asyncio.FIRST_COMPLETED)
            if draining.done():
                reading.cancel()
            draining.cancel()
        if self._draining.is_set():
            raise Draining("the server is stopping; every request that it accepted was answered")

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        """List the models, ready or not."""
        return conversions.to_list_models_response(self._catalog.statuses())

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        """Describe a served model."""
        return conversions.to_get_model_response(self._catalog.get(request.name, request.version))

    async def _predict(self, request: pb.PredictRequest, *, deadline: float | None) -> pb.PredictResponse:
        # Whatever is loaded meanwhile, the version that was found now answers.
        with self._catalog.get(request.model, request.version) as served:
            return await self._predict_with(served, request, deadline=deadline)

    async def _predict_with(
        self, served: ServedModel, request: pb.PredictRequest, *, deadline: float | None
    ) -> pb.PredictResponse:
        started = time.monotonic()
        top_k = conversions.to_top_k(request, labels=len(served.card.labels))
        pictures = conversions.to_pictures(request.images, max_images=self._max_images)
        held = sum([len(picture.data) for picture in pictures])
        # Refused before anything is decoded, and not any more afterwards.
        with served.batcher.reserve(len(pictures), size_bytes=held) as reservation:
            outcomes: Sequence[Decoded | ServingError] = await self._decoder.decode(pictures)
            readable = [pixels for pixels in outcomes if isinstance(pixels, bytes)]
            decode_seconds = time.monotonic() - started
            answer = (
                await served.batcher.submit(readable, deadline=deadline, reservation=reservation) if readable else None
            )
        timings = conversions.to_timings(answer, decode_seconds, total_seconds=time.monotonic() - started)
        labels = served.card.labels
        record = PredictRecord(
            served.card.model,
            served.card.version,
            labels=[labels[scores.indices[0]] for scores in answer.results] if answer else [],
            invalid=len(outcomes) - len(readable),
            failed=len(answer.failures) if answer else 0,
            decode_seconds=decode_seconds,
            total_seconds=time.monotonic() - started,
            queue_seconds=answer.queue_seconds if answer else 0.0,
            compute_seconds=answer.compute_seconds if answer else 0.0,
        )
        self._metrics.observe_predict(record)
        if (request_record := CURRENT.get()) is not None:  # the access log or a trace wants to know
            request_record.note(record)
        if answer and answer.failures:
            outcomes = _with_failures(outcomes, answer.failures)
        if len(outcomes) == 1 and isinstance(outcomes[0], ServingError):
            raise outcomes[0]
        return conversions.to_response(request, served.card, outcomes, answer, timings, top_k=top_k)

    async def _read_stream(self, requests: AsyncIterable[pb.PredictRequest], context: _Context) -> None:
        """Start on each request as it comes; when reading ends or is cancelled, finish what was started."""
        window = asyncio.Semaphore(_STREAM_WINDOW)
        writing = asyncio.Lock()
        answering: set[asyncio.Task[None]] = set()

        async def answer(request: pb.PredictRequest) -> None:
            response = await self._predict_or_error(request, deadline=_deadline_of(context))
            async with writing:  # grpc.aio takes one message of a stream at a time
                await context.write(response)
            window.release()

        try:
            async for request in requests:
                await window.acquire()
                task = asyncio.create_task(answer(request))
                answering.add(task)
                task.add_done_callback(answering.discard)
        finally:
            await asyncio.gather(*answering)

    async def _predict_or_error(self, request: pb.PredictRequest, *, deadline: float | None) -> pb.PredictResponse:
        try:
            return await self._predict(request, deadline=deadline)
        except ServingError as exc:
            return conversions.to_error_response(exc, request_id=request.id)


@contextlib.asynccontextmanager
async def _one_error() -> AsyncIterator[None]:
    """Raise the first `ServingError` of a group by itself, as the interceptor expects it."""
    try:
        yield
    except ExceptionGroup as group:
        serving, _ = group.split(ServingError)
        if serving is None:
            raise
        raise serving.exceptions[0] from None


def _with_failures(
    outcomes: Sequence[Decoded | ServingError], failures: Mapping[int, ServingError]
) -> list[Decoded | ServingError]:
    """Put the model's failures, by position among the readable pictures, in the places of those pictures."""
    places = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, bytes)]
    failed = {places[position]: error for position, error in failures.items()}
    return [failed.get(place, outcome) for place, outcome in enumerate(outcomes)]


def _deadline_of(context: _Context) -> float | None:
    """Return when the caller gives up, on the clock of `time.monotonic`; None when it never does."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining
