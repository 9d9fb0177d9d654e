"""Classify pictures on a cifarserve server, from asyncio."""

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from client.connection import Connection
from client.errors import ClientError, NotFound, ServerFailed, error_from_status
from client.pipeline import Classified, classify_files
from client.requests import Image, to_request
from client.results import Answer, ModelDetails, ModelSummary, to_answer, to_details, to_summaries
from client.sources import PathName
from client.streaming import exchange

_HealthCheck = Callable[..., Awaitable[health_pb2.HealthCheckResponse]]  # the published stubs have no methods


class ClassifierClient(Connection):
    """A connection to a cifarserve server.

        async with ClassifierClient("127.0.0.1:50051") as client:
            answer = await client.predict([Path("cat.jpg").read_bytes()], top_k=3)
            print(answer.results[0].predictions[0].label)

    Each call is answered or raises a `ClientError` within `timeout_seconds`. Until then, a call that
    meets a server that is away, stopping or overloaded is tried up to `max_attempts` times, as soon as the
    server said. All calls share one connection to each server that `target` resolves to, in turns.
    """

    async def __aenter__(self) -> Self:
        """Open the connection."""
        await super().__aenter__()
        self._healthy_channel = self._open(healthy_only=True)
        self._predictor = classifier_pb2_grpc.ClassifierServiceStub(self._healthy_channel)
        self._classifier = classifier_pb2_grpc.ClassifierServiceStub(self._channel)
        self._check: _HealthCheck = health_pb2_grpc.HealthStub(self._channel).Check  # type: ignore[attr-defined]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection; calls that are still under way are cancelled."""
        await self._healthy_channel.close()
        await super().__aexit__(kind, error, traceback)

    async def predict(
        self,
        images: Sequence[Image],
        *,
        model: str = "",
        version: int = 0,
        top_k: int = 1,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Classify pictures; there is one result for each, in their order.

        A picture that cannot be read has a result with an error, and the others are answered.

        Args:
            images: JPEG or PNG files as bytes, or `RawRgb` pixels; at least one, together at most 8 MiB.
            model: name of the model; empty: the server's default.
            version: version of the model; 0: the one being served.
            top_k: how many predictions to return for each picture, 1 to the number of labels.
            timeout_seconds: how long this call may take, its retries included; None: as long as every call.

        Raises:
            InvalidRequest: the images together or `top_k` are not acceptable, or the only image cannot be read.
            NotFound: the server does not serve this model or version.
            ClientError: any other failure, see `client.errors`.
        """
        request = to_request(images, model=model, version=version, top_k=top_k)
        answer = to_answer(await self._call(self._predictor.Predict, request, timeout_seconds=timeout_seconds))
        if len(answer.results) != len(images):
            raise ServerFailed(f"expected {len(images)} results from {self._target}, got {len(answer.results)}")
        return answer

    async def predict_many(
        self,
        files: PathName | Iterable[PathName],
        *,
        model: str = "",
        version: int = 0,
        top_k: int = 1,
        show_progress: bool = False,
    ) -> AsyncGenerator[Classified, None]:
        """Classify any number of files; yields a result for each, in their order.

            async for picture in client.predict_many("holiday-photos/", show_progress=True):
                print(picture.name, picture.result)

        Files are sent in batches, several at a time, so that neither side waits for the other; they are
        read only so far ahead, however many there are. A file that cannot be read or classified has a
        result with an error, and the others go on.

        Args:
            files: a file, a folder, which is the JPEG and PNG files directly in it, sorted by name, or any
                number of both.
            model: name of the model; empty: the server's default.
            version: version of the model; 0: the one being served.
            top_k: how many predictions to return for each picture, 1 to the number of labels.
            show_progress: show a bar on standard error, if that is a terminal.

        Raises:
            PictureMissing: the one file or folder is not there, or a folder holds no pictures.
            ClientError: a whole batch failed; what was not yielded yet is abandoned.
        """
        predict = functools.partial(self.predict, model=model, version=version, top_k=top_k)
        async with contextlib.aclosing(classify_files(files, predict, show_progress=show_progress)) as batches:
            async for batch in batches:
                for classified in batch:
                    yield classified

    async def predict_stream(
        self, requests: AsyncIterable[Sequence[Image]], *, model: str = "", version: int = 0, top_k: int = 1
    ) -> AsyncGenerator[tuple[int, Answer | ClientError], None]:
        """Classify list after list of pictures over one stream.

        Yields, for each list, its position from 0 and its answer, or the error that this list alone
        met. They come in the order in which they are finished. `requests` is read only so far ahead
        that at most 16 lists are unanswered. The other arguments are those of `predict`.

        Raises:
            DeadlineExceeded: an answer was due, and none came for the client's `timeout_seconds`.
            ClientError: the stream as a whole failed; lists without an answer may have been classified.
        """
        build = functools.partial(to_request, model=model, version=version, top_k=top_k)
        call = self._predictor.PredictStream(metadata=self._call_metadata())
        responses = exchange(call, _number(requests, build), timeout_seconds=self._timeout_seconds)
        try:
            async with contextlib.aclosing(responses):
                async for response in responses:
                    yield int(response.id), self._answer_or_error(response)
        except grpc.aio.AioRpcError as exc:
            raise self._to_error(exc) from exc
        except TimeoutError as exc:
            raise self._deadline_exceeded(self._timeout_seconds) from exc

    async def list_models(self) -> tuple[ModelSummary, ...]:
        """Return the models that the server knows, ready or not, sorted by name."""
        return to_summaries(await self._call(self._classifier.ListModels, pb.ListModelsRequest()))

    async def get_model(self, name: str = "", version: int = 0) -> ModelDetails:
        """Describe a served model; empty name: the server's default, version 0: the one being served.

        Raises:
            NotFound: the server does not serve this model or version.
        """
        return to_details(await self._call(self._classifier.GetModel, pb.GetModelRequest(name=name, version=version)))

    async def health(self, service: str = "") -> bool:
        """Return whether `service` answers: "" is the whole server, "model/NAME" one model.

        Raises:
            NotFound: the server knows no service of that name.
        """
        try:
            response = await self._call(self._check, health_pb2.HealthCheckRequest(service=service))
        except NotFound as exc:  # the protocol gives no text
            raise NotFound(f"server at {self._target} knows no service {service!r}") from exc
        return response.status == health_pb2.HealthCheckResponse.SERVING

    def _connected(self) -> bool:
        channels = (self._channel, self._healthy_channel)
        return all(channel.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE for channel in channels)

    def _answer_or_error(self, response: pb.PredictResponse) -> Answer | ClientError:
        if response.HasField("error"):
            return error_from_status(response.error.code, response.error.message, target=self._target)
        return to_answer(response)


async def _number(
    requests: AsyncIterable[Sequence[Image]], build: Callable[..., pb.PredictRequest]
) -> AsyncIterator[pb.PredictRequest]:
    """Turn lists of pictures into messages whose ids are their positions."""
    position = 0
    async for images in requests:
        yield build(images, request_id=str(position))
        position += 1
