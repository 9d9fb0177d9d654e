"""The V2 door: `inference.GRPCInferenceService`. Translation only: convert, call, convert."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import AsyncIterable, Sequence
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from cifarserve.inference import open_inference_pb2 as pb
from cifarserve.inference import open_inference_pb2_grpc
from server.calls import deadline_of
from server.catalog import Catalog
from server.decoding import Picture
from server.engines import Scores
from server.errors import InvalidArgument, ServingError
from server.open_inference import tensors
from server.open_inference.description import server_metadata, to_config, to_metadata
from server.open_inference.entries import Entry, find_entry, to_version
from server.open_inference.index import to_index
from server.open_inference.statistics import to_statistics
from server.operations import Operations
from server.prediction import Predicted, Predictor
from server.served import BatchLimits, ServedModel
from server.streams import Streams

if TYPE_CHECKING:
    from server.calls import Context

_TYPED_RUN = 16  # so many pictures, sent value by value, hold the event loop for about a millisecond
_STATUS_WANTED = ("triton_grpc_error", "true")


class OpenInferenceServicer(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers the RPCs of the contract. Raises `ServingError`; the interceptor makes statuses of it."""

    def __init__(
        self,
        catalog: Catalog,
        operations: Operations,
        predictor: Predictor,
        streams: Streams,
        health: health_aio.HealthServicer,
        *,
        limits: BatchLimits,
        max_images: int,
    ) -> None:
        """Take what answers.

        Args:
            catalog: the models.
            operations: what operators may ask for.
            predictor: computes pictures.
            streams: answers streams.
            health: knows whether the server is ready.
            limits: of every model's queue, to be told.
            max_images: how many pictures a request may have.
        """
        self._catalog = catalog
        self._operations = operations
        self._predictor = predictor
        self._streams = streams
        self._health = health
        self._limits = limits
        self._max_images = max_images

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """Answer."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """Tell what health tells."""
        health = await self._health.Check(health_pb2.HealthCheckRequest(), context)
        return pb.ServerReadyResponse(ready=health.status == health_pb2.HealthCheckResponse.SERVING)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Tell whether a version answers; an unknown one does not."""
        version = to_version(request.version)
        try:
            self._find(request.name, version)
        except ServingError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """Describe the server."""
        return server_metadata()

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Describe a model's tensors."""
        return to_metadata(*self._find(request.name, to_version(request.version)))

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """Describe how a model is served."""
        entry, served = self._find(request.name, to_version(request.version))
        return pb.ModelConfigResponse(config=to_config(entry, served, limits=self._limits, max_images=self._max_images))

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        """Tell what a model did; without a name, what each did, once."""
        if request.name:
            asked = [self._find(request.name, to_version(request.version))]
        else:
            asked = [
                (Entry(status.name, is_encoded=False), status.served)
                for status in self._catalog.statuses()
                if status.served
            ]
        return pb.ModelStatisticsResponse(model_stats=itertools.starmap(to_statistics, asked))

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Classify pictures."""
        return await self._infer(request, context=context)

    async def ModelStreamInfer(  # type: ignore[override]  # answers are written to the context, not yielded
        self, requests: AsyncIterable[pb.ModelInferRequest], context: Context
    ) -> None:
        """Classify request after request, and answer in their order."""
        is_status_wanted = _STATUS_WANTED in tuple(context.invocation_metadata() or ())
        respond = functools.partial(self._infer_of_stream, context=context, is_status_wanted=is_status_wanted)
        await self._streams.answer(requests, respond, context.write, in_order=True)

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """List the models, as `ListModels` does: to everybody."""
        _only_repository(request.repository_name)
        return to_index(self._catalog.statuses(), only_ready=request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Serve a model."""
        _only_repository(request.repository_name)
        if request.parameters:
            names = ", ".join(sorted(request.parameters))[:200]
            raise InvalidArgument(f"parameters: expected none, what is served lies in the repository; got {names}")
        await self._operations.load(self._operated(request.model_name))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Serve a model no more."""
        _only_repository(request.repository_name)
        await self._operations.unload(self._operated(request.model_name))
        return pb.RepositoryModelUnloadResponse()

    def _find(self, name: str, version: int) -> tuple[Entry, ServedModel]:
        entry = find_entry(name, exists=self._catalog.__contains__)
        return entry, self._catalog.get(entry.model, version)

    def _operated(self, name: str) -> str:
        """Return the model that an operator names."""
        entry = find_entry(name, exists=self._catalog.__contains__)
        if entry.is_encoded:
            raise InvalidArgument(f"model_name: {name!r} comes and goes with the model: expected {entry.model!r}")
        if not name:
            raise InvalidArgument("model_name: expected the name of a model, got none")
        return name

    async def _infer(self, request: pb.ModelInferRequest, *, context: Context) -> pb.ModelInferResponse:
        entry, found = self._find(request.model_name, to_version(request.model_version))
        # Whatever is loaded meanwhile, the version that was found now answers.
        with found as served:
            class_count = tensors.to_class_count(request)
            deadline = _deadline(request, context)
            pictures = await self._pictures(request, entry)
            predicted = await self._predictor.predict(served, pictures, deadline=deadline)
            return _to_response(request, entry, served, _all_answered(predicted), class_count=class_count)

    async def _infer_of_stream(
        self, request: pb.ModelInferRequest, *, context: Context, is_status_wanted: bool
    ) -> pb.ModelStreamInferResponse:
        try:
            return pb.ModelStreamInferResponse(infer_response=await self._infer(request, context=context))
        except ServingError as exc:
            if is_status_wanted:
                raise
            return pb.ModelStreamInferResponse(
                error_message=str(exc),
                infer_response=pb.ModelInferResponse(model_name=request.model_name, id=request.id),
            )

    async def _pictures(self, request: pb.ModelInferRequest, entry: Entry) -> list[Picture]:
        found = tensors.to_pictures(request, is_encoded=entry.is_encoded, max_images=self._max_images)
        if not tensors.is_typed(request):
            return list(found)
        pictures: list[Picture] = []
        while run := list(itertools.islice(found, _TYPED_RUN)):
            pictures += run
            await asyncio.sleep(0)  # let the others have their turn
        return pictures


def _only_repository(name: str) -> None:
    if name:
        raise InvalidArgument(f"repository_name: expected nothing, there is one repository; got {name[:64]!r}")


def _deadline(request: pb.ModelInferRequest, context: Context) -> float | None:
    """Return the earlier of the call's deadline and the request's own `timeout`, on the clock of `time.monotonic`."""
    timeout_us = tensors.to_integer(request.parameters, "timeout")
    if timeout_us < 0:
        raise InvalidArgument(f"timeout: expected microseconds from 0, got {timeout_us}")
    deadline = deadline_of(context)
    if not timeout_us:
        return deadline
    own = time.monotonic() + timeout_us / 1_000_000
    return own if deadline is None else min(own, deadline)


def _all_answered(predicted: Predicted) -> Sequence[Scores]:
    """Return the scores of every picture; a tensor has no room for errors, so one that failed fails all.

    Raises:
        ServingError: of the first picture that failed; the message tells which it was.
    """
    outcomes = predicted.outcomes
    for number, outcome in enumerate(outcomes, start=1):
        if isinstance(outcome, ServingError):
            which = f"image {number} of {len(outcomes)}: " if len(outcomes) > 1 else ""
            raise type(outcome)(f"{which}{outcome}")
    return predicted.answer.results if predicted.answer else ()


def _to_response(
    request: pb.ModelInferRequest, entry: Entry, served: ServedModel, scores: Sequence[Scores], *, class_count: int
) -> pb.ModelInferResponse:
    """Return the answer to a request. Its output is always raw: some clients read nothing else."""
    card = served.card
    response = pb.ModelInferResponse(
        model_name=entry.name_of(card.model), model_version=str(card.version), id=request.id
    )
    response.parameters["digest"].string_param = card.digest
    output = response.outputs.add(name=tensors.OUTPUT)
    count = min(class_count, len(card.labels))
    if count:
        output.datatype = "BYTES"
        raw = tensors.to_raw_classes(scores, card.labels, count=count)
    else:
        output.datatype = "FP32"
        raw = tensors.to_raw_probabilities(scores, labels=len(card.labels))
    output.shape.extend((len(scores), count or len(card.labels)))
    response.raw_output_contents.append(raw)
    return response
