"""The typed door: `cifarserve.v1.ClassifierService`. Translation only: convert, call, convert."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from server import conversions
from server.calls import deadline_of
from server.catalog import Catalog
from server.errors import ServingError
from server.prediction import Predictor
from server.streams import Streams

if TYPE_CHECKING:
    from server.calls import Context


class ClassifierServicer(classifier_pb2_grpc.ClassifierServiceServicer):
    """Answers the RPCs of the contract. Raises `ServingError`; the interceptor makes statuses of it."""

    def __init__(self, catalog: Catalog, predictor: Predictor, streams: Streams, *, max_images: int) -> None:
        self._catalog = catalog
        self._predictor = predictor
        self._streams = streams
        self._max_images = max_images

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        """Classify one or many pictures."""
        return await self._predict(request, deadline=deadline_of(context))

    async def PredictStream(  # type: ignore[override]  # answers are written to the context, not yielded
        self, requests: AsyncIterable[pb.PredictRequest], context: Context
    ) -> None:
        """Classify request after request; each is answered when it is finished."""
        respond = functools.partial(self._predict_or_error, context=context)
        await self._streams.answer(requests, respond, context.write, in_order=False)

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        """List the models, ready or not."""
        return conversions.to_list_models_response(self._catalog.statuses())

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        """Describe a served model."""
        return conversions.to_get_model_response(self._catalog.get(request.name, request.version))

    async def _predict(self, request: pb.PredictRequest, *, deadline: float | None) -> pb.PredictResponse:
        # Whatever is loaded meanwhile, the version that was found now answers.
        with self._catalog.get(request.model, request.version) as served:
            started = time.monotonic()
            top_k = conversions.to_top_k(request, labels=len(served.card.labels))
            pictures = conversions.to_pictures(request.images, max_images=self._max_images)
            predicted = await self._predictor.predict(served, pictures, deadline=deadline)
            outcomes = predicted.outcomes
            if len(outcomes) == 1 and isinstance(outcomes[0], ServingError):
                raise outcomes[0]
            return conversions.to_response(
                request,
                served.card,
                outcomes,
                predicted.answer,
                decode_seconds=predicted.decode_seconds,
                total_seconds=time.monotonic() - started,
                top_k=top_k,
            )

    async def _predict_or_error(self, request: pb.PredictRequest, *, context: Context) -> pb.PredictResponse:
        try:
            return await self._predict(request, deadline=deadline_of(context))
        except ServingError as exc:
            return conversions.to_error_response(exc, request_id=request.id)
