"""A real gRPC server with a scripted classifier behind it: the bytes of a picture are its label."""

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cifarserve.v1 import admin_pb2, admin_pb2_grpc, classifier_pb2_grpc
from cifarserve.v1 import classifier_pb2 as pb

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WHITENED = pb.ModelIdentity(name="whitened", version=2, digest="ab12cd34" * 8)
BROKEN = b"broken"  # a picture that the server cannot read

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Failure:
    """A status to answer with in place of an answer."""

    code: grpc.StatusCode
    details: str
    pushback_ms: int | None = None


class FakeClassifier(classifier_pb2_grpc.ClassifierServiceServicer):
    """Answers every picture whose bytes are a label with that label, and others with "cat".

    Attributes:
        failures: one is taken for each Predict, until there are none.
        requests: every PredictRequest that arrived, attempts that failed included.
        metadata: what came with each of them, and with each ListModels.
        arrived_at: when each of them did, in seconds.
        peers: the ends of the connections that they came over.
        arrived: set when the first of them did.
        gate: while it is cleared, Predict does not answer.
        results_to_drop: how many results are missing in each answer.
        versions: of the model that answers; one is taken for each answer but the last.
    """

    def __init__(self) -> None:
        self.failures: deque[Failure] = deque()
        self.requests: list[pb.PredictRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.arrived_at: list[float] = []
        self.peers: set[str] = set()
        self.arrived = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.results_to_drop = 0
        self.versions = deque([WHITENED.version])

    async def Predict(self, request: pb.PredictRequest, context: _Context) -> pb.PredictResponse:
        self._record(request, context)
        self.peers.add(context.peer())
        if self.failures:
            await _abort(context, self.failures.popleft())
        await self.gate.wait()
        if [image.encoded for image in request.images] == [BROKEN]:  # as the real server does
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a picture")
        return self._answer(request)

    async def PredictStream(
        self, requests: AsyncIterator[pb.PredictRequest], context: _Context
    ) -> AsyncIterator[pb.PredictResponse]:
        """Answers in pairs, the second request first, and refuses a request without images."""
        pair: list[pb.PredictRequest] = []
        async for request in requests:
            self._record(request, context)
            if self.failures:
                await _abort(context, self.failures.popleft())
            await self.gate.wait()
            pair.append(request)
            if len(pair) == 2:
                yield self._stream_answer(pair[1])
                yield self._stream_answer(pair[0])
                pair = []
        for request in pair:
            yield self._stream_answer(request)

    async def ListModels(self, request: pb.ListModelsRequest, context: _Context) -> pb.ListModelsResponse:  # noqa: ARG002
        self.metadata.append(dict(context.invocation_metadata() or ()))
        return pb.ListModelsResponse(
            models=[
                pb.ModelSummary(
                    name="broken", versions=[1], state=pb.MODEL_STATE_UNAVAILABLE, reason="model.pt is damaged"
                ),
                pb.ModelSummary(
                    name="whitened",
                    versions=[1, 2, 3],
                    state=pb.MODEL_STATE_READY,
                    serving=WHITENED,
                    is_default=True,
                    refused=[pb.RefusedVersion(version=3, reason="model.pt is cut off")],
                    pinned_version=2,
                ),
            ]
        )

    async def GetModel(self, request: pb.GetModelRequest, context: _Context) -> pb.GetModelResponse:
        if request.name not in {"", "whitened"}:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name!r}: expected one of whitened")
        return pb.GetModelResponse(
            model=WHITENED,
            architecture="whitened",
            parameters=1000,
            labels=LABELS,
            test_accuracy=0.94,
            device="cpu",
            batch_costs=[pb.BatchCost(batch_size=1, milliseconds=0.5), pb.BatchCost(batch_size=64, milliseconds=4)],
        )

    def _record(self, request: pb.PredictRequest, context: _Context) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.arrived_at.append(time.monotonic())
        self.arrived.set()

    def _next_version(self) -> int:
        return self.versions.popleft() if len(self.versions) > 1 else self.versions[0]

    def _stream_answer(self, request: pb.PredictRequest) -> pb.PredictResponse:
        if not request.images:
            return pb.PredictResponse(id=request.id, error=pb.Error(code=3, message="expected 1 to 64 images, got 0"))
        return self._answer(request)

    def _answer(self, request: pb.PredictRequest) -> pb.PredictResponse:
        results = [_result(image, request.top_k) for image in request.images]
        return pb.PredictResponse(
            id=request.id,
            results=results[self.results_to_drop :],
            model=pb.ModelIdentity(name=WHITENED.name, version=self._next_version(), digest=WHITENED.digest),
            timings=pb.Timings(decode_ms=1, queue_ms=2, compute_ms=3, total_ms=6, batch_size=len(results)),
        )


class FakeAdmin(admin_pb2_grpc.ModelAdminServiceServicer):
    """Has a model `whitened` with versions 1 to 3, the last of which is damaged; knows no other.

    Attributes:
        serving: the version that answers; 0: none.
        pinned: the version that the model is pinned to; 0: none.
        reloads: how often it was loaded afresh.
        failures: one is taken for each request, until there are none.
    """

    def __init__(self) -> None:
        self.serving = 2
        self.pinned = 0
        self.reloads = 0
        self.failures: deque[Failure] = deque()

    async def ListVersions(
        self, request: admin_pb2.ListVersionsRequest, context: _Context
    ) -> admin_pb2.ListVersionsResponse:
        await self._look_at(request.name, context)
        return admin_pb2.ListVersionsResponse(model=self._model())

    async def Load(self, request: admin_pb2.LoadRequest, context: _Context) -> admin_pb2.LoadResponse:
        await self._look_at(request.name, context)
        self.serving = self.pinned or 2
        return admin_pb2.LoadResponse(model=self._model())

    async def Unload(self, request: admin_pb2.UnloadRequest, context: _Context) -> admin_pb2.UnloadResponse:
        await self._look_at(request.name, context)
        self.serving = 0
        return admin_pb2.UnloadResponse(model=self._model())

    async def Rollback(self, request: admin_pb2.RollbackRequest, context: _Context) -> admin_pb2.RollbackResponse:
        await self._look_at(request.name, context)
        if request.version == 3:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "refused, version 2 goes on: model.pt is cut off")
        self.serving = self.pinned = request.version
        return admin_pb2.RollbackResponse(model=self._model())

    async def Unpin(self, request: admin_pb2.UnpinRequest, context: _Context) -> admin_pb2.UnpinResponse:
        await self._look_at(request.name, context)
        self.serving, self.pinned = 2, 0
        return admin_pb2.UnpinResponse(model=self._model())

    async def Reload(self, request: admin_pb2.ReloadRequest, context: _Context) -> admin_pb2.ReloadResponse:
        await self._look_at(request.name, context)
        self.reloads += 1
        return admin_pb2.ReloadResponse(model=self._model())

    async def _look_at(self, name: str, context: _Context) -> None:
        if self.failures:
            await _abort(context, self.failures.popleft())
        if name not in {"", "whitened"}:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {name!r}: expected one of whitened")

    def _model(self) -> admin_pb2.ModelVersions:
        versions = [
            admin_pb2.ModelVersion(
                version=number,
                state=admin_pb2.VERSION_STATE_SERVING if number == self.serving else admin_pb2.VERSION_STATE_AVAILABLE,
                digest=WHITENED.digest if number == self.serving else "",
            )
            for number in (1, 2)
        ]
        damaged = admin_pb2.ModelVersion(version=3, state=admin_pb2.VERSION_STATE_REFUSED, reason="model.pt is cut off")
        return admin_pb2.ModelVersions(name="whitened", versions=[*versions, damaged], pinned_version=self.pinned)


class FakeHealth(health.aio.HealthServicer):
    """Says what `serve` was told, at first that everything serves.

    Attributes:
        checked: set when the first Check was answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.checked = asyncio.Event()

    async def serve(self, service: str = "", *, serving: bool) -> None:
        states = health_pb2.HealthCheckResponse
        await self.set(service, states.SERVING if serving else states.NOT_SERVING)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: _Context) -> health_pb2.HealthCheckResponse:
        self.checked.set()
        return await super().Check(request, context)


@dataclass(frozen=True)
class FakeServer:
    """A running server: where it listens, its classifier, its operators' door, and its health."""

    target: str
    classifier: FakeClassifier
    admin: FakeAdmin
    health: FakeHealth


@contextlib.asynccontextmanager
async def running(port: int = 0) -> AsyncIterator[FakeServer]:
    """Run a server on a port of 127.0.0.1, a free one by default."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 8 * 2**20)])
    classifier, admin, healths = FakeClassifier(), FakeAdmin(), FakeHealth()
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(classifier, server)
    admin_pb2_grpc.add_ModelAdminServiceServicer_to_server(admin, server)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    await healths.serve(serving=True)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield FakeServer(f"127.0.0.1:{port}", classifier, admin, healths)
    finally:
        await server.stop(grace=None)


@contextlib.contextmanager
def nobody_listens() -> Iterator[str]:
    """Hold a port on which nobody listens; connections are refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


async def _abort(context: _Context, failure: Failure) -> None:
    trailers = () if failure.pushback_ms is None else (("grpc-retry-pushback-ms", str(failure.pushback_ms)),)
    await context.abort(failure.code, failure.details, trailers)


def _result(image: pb.Image, top_k: int) -> pb.Result:
    if image.encoded == BROKEN:
        return pb.Result(error=pb.Error(code=3, message="not a picture"))
    label = image.encoded.decode() if len(image.encoded) < 20 else ""
    best = LABELS.index(label) if label in LABELS else LABELS.index("cat")
    ranked = [best, *(index for index in range(len(LABELS)) if index != best)]
    return pb.Result(
        predictions=[
            pb.Prediction(label=LABELS[index], index=index, probability=0.75 / 4**rank)
            for rank, index in enumerate(ranked[:top_k])
        ]
    )
