from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio
from PIL import Image

from cifarserve.inference import open_inference_pb2 as pb
from cifarserve.inference import open_inference_pb2_grpc
from cifarserve.v1 import classifier_pb2, classifier_pb2_grpc
from models.repository import Repository
from server.admission import Admission
from server.catalog import Catalog
from server.decoding import Decoder
from server.images import ImageLimits
from server.interceptor import StatusInterceptor
from server.metrics import Metrics
from server.open_inference.servicer import OpenInferenceServicer
from server.operations import Operations
from server.prediction import Predictor
from server.reconciliation import ModelControl
from server.security import gate
from server.served import BatchLimits
from server.servicer import ClassifierServicer
from server.streams import Streams
from tests.fakes import FakeEngines
from tests.polling import eventually

if TYPE_CHECKING:
    from cifarserve.inference.open_inference_pb2_grpc import GRPCInferenceServiceAsyncStub
    from cifarserve.v1.classifier_pb2_grpc import ClassifierServiceAsyncStub

Tensor = pb.ModelInferRequest.InferInputTensor
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
LIMITS = BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8)


@dataclass
class Service:
    """The real service on a real socket, in front of fake engines."""

    stub: GRPCInferenceServiceAsyncStub
    typed: ClassifierServiceAsyncStub
    engines: FakeEngines
    metrics: Metrics
    streams: Streams
    admission: Admission
    health: health_aio.HealthServicer

    @property
    def engine(self) -> Any:  # noqa: ANN401  # a fake
        return self.engines.engines["quick/2"]

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def service(repository: Path, tmp_path: Path) -> AsyncIterator[Service]:
    own = shutil.copytree(repository, tmp_path / "repository")
    engines, metrics, admission, streams = FakeEngines(), Metrics(), Admission(), Streams()
    health = health_aio.HealthServicer()
    catalog = Catalog(
        own,
        default_model="quick",
        make_engine=engines,
        limits=LIMITS,
        metrics=metrics,
        on_failure=pytest.fail,
        control=ModelControl.POLL,
        poll_interval_seconds=3600,
    )
    decoder = Decoder(threads=1, limits=ImageLimits(max_bytes=10**6, max_pixels=10**6))
    predictor = Predictor(decoder, metrics)
    servicer = OpenInferenceServicer(
        catalog,
        Operations(catalog, Repository(own)),
        predictor,
        streams,
        health,
        limits=LIMITS,
        max_images=8,
    )
    running = grpc.aio.server(
        interceptors=[StatusInterceptor(metrics, admission, packages=["cifarserve.v1", "inference"])]
    )
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, running)
    typed = ClassifierServicer(catalog, predictor, streams, max_images=8)
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(typed, running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    with decoder:
        async with catalog, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            typed_stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
            yield Service(stub, typed_stub, engines, metrics, streams, admission, health)
            for engine in engines.engines.values():
                engine.gate.set()
            await running.stop(None)


def infer(*labels: int, **fields: Any) -> pb.ModelInferRequest:  # noqa: ANN401  # fields of many types
    """Pictures that the fake engine takes for `labels`."""
    return pb.ModelInferRequest(
        inputs=[Tensor(name="image", datatype="UINT8", shape=(len(labels), 32, 32, 3))],
        raw_input_contents=[b"".join(bytes([label]) * 3072 for label in labels)],
        **fields,
    )


def png(label: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (label, label, label)).save(buffer, "PNG")
    return buffer.getvalue()


def files(*contents: bytes) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name="quick_encoded",
        inputs=[
            Tensor(
                name="image",
                datatype="BYTES",
                shape=(len(contents),),
                contents=pb.InferTensorContents(bytes_contents=contents),
            )
        ],
    )


def best_of(response: pb.ModelInferResponse) -> list[int]:
    """The most probable label of each picture."""
    [output], [raw] = response.outputs, response.raw_output_contents
    assert (output.name, output.datatype) == ("probabilities", "FP32")
    return [int(best) for best in np.frombuffer(raw, "<f4").reshape(*output.shape).argmax(axis=1)]


async def failure_of(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value


async def test_pixels_are_answered_raw(service: Service) -> None:
    """Each picture gets its probabilities; the answer says which model, version and weights, and whose it is."""
    response = await service.stub.ModelInfer(infer(3, 5, id="mine"))

    assert best_of(response) == [3, 5]
    assert (response.model_name, response.model_version, response.id) == ("quick", "2", "mine")
    assert len(response.parameters["digest"].string_param) == 64


async def test_typed_request_is_answered_raw_too(service: Service) -> None:
    """Values sent one by one are computed alike, and answered raw: some clients read nothing else."""
    request = infer(3, 5)
    request.inputs[0].contents.uint_contents.extend(request.raw_input_contents[0])
    request.ClearField("raw_input_contents")
    response = await service.stub.ModelInfer(request)

    assert best_of(response) == [3, 5]
    assert not response.outputs[0].HasField("contents")


async def test_floats_are_pixels_divided_by_255(service: Service) -> None:
    """FP32 planes from 0 to 1 are the same pictures."""
    values = np.full((2, 3, 32, 32), 7 / 255, "<f4")
    request = pb.ModelInferRequest(
        inputs=[Tensor(name="image", datatype="FP32", shape=values.shape)], raw_input_contents=[values.tobytes()]
    )

    assert best_of(await service.stub.ModelInfer(request)) == [7, 7]


async def test_files_are_decoded(service: Service) -> None:
    """The encoded entry takes PNG and JPEG files."""
    response = await service.stub.ModelInfer(files(png(4), png(6)))

    assert best_of(response) == [4, 6]
    assert response.model_name == "quick_encoded"


async def test_bad_file_fails_the_request_by_its_number(service: Service) -> None:
    """A tensor has no room for errors: the request fails and names the picture."""
    failure = await failure_of(service.stub.ModelInfer(files(png(4), b"no", png(6))))

    assert failure.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.details() == "image 2 of 3: expected a JPEG or PNG file, got 2 bytes of something else"


async def test_picture_that_the_model_fails_on_fails_the_request(service: Service) -> None:
    """A failure of the model tells which picture, and nothing of the inside."""
    service.engine.failure, service.engine.guilty = RuntimeError("secret"), {7}
    failure = await failure_of(service.stub.ModelInfer(infer(1, 7)))

    assert (failure.code(), failure.details()) == (
        grpc.StatusCode.INTERNAL,
        "image 2 of 2: the model failed on this picture",
    )


@pytest.mark.parametrize(
    ("request_message", "code", "details"),
    [
        (infer(1, model_name="nobody"), grpc.StatusCode.NOT_FOUND, "unknown model 'nobody': expected one of"),
        (
            infer(1, model_version="1"),
            grpc.StatusCode.NOT_FOUND,
            "version 1 of model 'quick' is not served: expected 2",
        ),
        (infer(1, model_version="x"), grpc.StatusCode.INVALID_ARGUMENT, "version: expected a decimal number from 1"),
        (infer(*range(9)), grpc.StatusCode.INVALID_ARGUMENT, "input 'image': expected 1 to 8 images, got 9"),
        (
            infer(1, outputs=[{"name": "logits"}]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "outputs: expected 'probabilities', got 'logits'",
        ),
        (
            infer(1, parameters={"timeout": pb.InferParameter(int64_param=-1)}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "timeout: expected microseconds from 0, got -1",
        ),
    ],
)
async def test_bad_request_gets_one_status_and_one_line(
    service: Service, request_message: pb.ModelInferRequest, code: grpc.StatusCode, details: str
) -> None:
    """Each way to ask wrongly has one status and a text with the fact and the expectation."""
    failure = await failure_of(service.stub.ModelInfer(request_message))

    assert failure.code() == code
    assert (failure.details() or "").startswith(details)


async def test_version_that_is_served_may_be_named(service: Service) -> None:
    """Who names the version gets it, or nothing."""
    assert (await service.stub.ModelInfer(infer(1, model_version="2"))).model_version == "2"


async def test_both_doors_share_a_pass(service: Service) -> None:
    """Pictures that wait leave together, whichever door they came through."""
    service.engine.gate.clear()
    calls = [asyncio.ensure_future(service.stub.ModelInfer(infer(0)))]
    await eventually(lambda: len(service.engine.batches) == 1)
    calls.append(asyncio.ensure_future(service.stub.ModelInfer(infer(1))))
    own = classifier_pb2.PredictRequest(images=[classifier_pb2.Image(rgb=bytes([2]) * 3072)])
    typed = asyncio.ensure_future(service.typed.Predict(own))
    await eventually(lambda: service.count("cifarserve_queue_items", model="quick") == 2)
    service.engine.gate.set()
    answers = await asyncio.gather(*calls)

    assert [best_of(answer) for answer in answers] == [[0], [1]]
    assert (await typed).results[0].predictions[0].index == 2
    assert service.engine.batches == [1, 2]


async def test_full_queue_refuses_with_a_time_to_retry(service: Service) -> None:
    """The queue's bound and the pushback are those of our own service."""
    service.engine.gate.clear()
    accepted = [asyncio.ensure_future(service.stub.ModelInfer(infer(0)))]
    await eventually(lambda: len(service.engine.batches) == 1)
    accepted.append(asyncio.ensure_future(service.stub.ModelInfer(infer(*[1] * 4))))
    await eventually(lambda: len(service.engine.batches) == 2)  # a full batch is put in place behind the first one
    accepted.append(asyncio.ensure_future(service.stub.ModelInfer(infer(*[1] * 8))))
    await eventually(lambda: service.count("cifarserve_queue_items", model="quick") == 8)
    failure = await failure_of(service.stub.ModelInfer(infer(0)))
    service.engine.gate.set()
    await asyncio.gather(*accepted)

    assert failure.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(failure.trailing_metadata() or ())["grpc-retry-pushback-ms"]) >= 1
    assert service.count("cifarserve_requests_total", method="ModelInfer", code="RESOURCE_EXHAUSTED") == 1


async def test_expired_deadline_is_never_executed(service: Service) -> None:
    """The call's deadline bounds the wait, and so does the request's own timeout in microseconds."""
    service.engine.gate.clear()
    first = asyncio.ensure_future(service.stub.ModelInfer(infer(0)))
    await eventually(lambda: len(service.engine.batches) == 1)
    by_call = await failure_of(service.stub.ModelInfer(infer(1), timeout=0.05))
    own = infer(2, parameters={"timeout": pb.InferParameter(int64_param=1)})
    late = asyncio.ensure_future(service.stub.ModelInfer(own))
    await eventually(lambda: service.count("cifarserve_queue_items", model="quick") >= 1)
    service.engine.gate.set()
    by_request = await failure_of(late)  # type: ignore[arg-type]
    await first

    assert by_call.code() == by_request.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.engine.batches == [1]


async def test_metrics_count_the_request_and_its_pictures(service: Service) -> None:
    """The door shares the metrics of our own: by method, and by picture."""
    await service.stub.ModelInfer(infer(3, 3))

    assert service.count("cifarserve_requests_total", method="ModelInfer", code="OK") == 1
    assert service.count("cifarserve_images_total", model="quick", version="2", outcome="answered") == 2
    assert service.count("cifarserve_predictions_total", model="quick", label="cat") == 2


async def test_stream_answers_in_order_with_errors_in_their_places(service: Service) -> None:
    """A request that fails gets its message and its id; the stream goes on."""

    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for number in range(6):
            yield infer(number, id=str(number), model_name="nobody" if number == 2 else "")

    answers = [answer async for answer in service.stub.ModelStreamInfer(requests())]

    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(6)]
    assert [bool(answer.error_message) for answer in answers] == [False, False, True, False, False, False]
    assert best_of(answers[5].infer_response) == [5]


async def test_stream_ends_with_a_status_when_that_is_wanted(service: Service) -> None:
    """With `triton_grpc_error: true`, a failure is the status of the stream."""
    call = service.stub.ModelStreamInfer(metadata=(("triton_grpc_error", "true"),))
    await call.write(infer(1, id="first"))
    await call.write(infer(1, id="second", model_version="9"))
    first = await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()

    assert isinstance(first, pb.ModelStreamInferResponse)
    assert first.infer_response.id == "first"
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND


async def test_drain_ends_a_stream_after_its_answers(service: Service) -> None:
    """When the server drains, a stream gets the answers it is owed and then UNAVAILABLE."""
    service.engine.gate.clear()
    call = service.stub.ModelStreamInfer()
    await call.write(infer(4, id="owed"))
    await eventually(lambda: len(service.engine.batches) == 1)
    service.streams.drain()
    service.engine.gate.set()
    answer = await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()

    assert isinstance(answer, pb.ModelStreamInferResponse)
    assert answer.infer_response.id == "owed"
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_draining_server_refuses(service: Service) -> None:
    """New requests are refused like those of our own service: UNAVAILABLE, which clients retry elsewhere."""
    assert await service.admission.drain(timeout_seconds=5)
    failure = await failure_of(service.stub.ModelInfer(infer(1)))

    assert failure.code() == grpc.StatusCode.UNAVAILABLE


async def test_readiness_is_that_of_health(service: Service) -> None:
    """The server is live as soon as it answers, and ready when health says SERVING."""
    await service.health.set("", NOT_SERVING)
    before = await service.stub.ServerReady(pb.ServerReadyRequest())
    await service.health.set("", SERVING)
    after = await service.stub.ServerReady(pb.ServerReadyRequest())

    assert (await service.stub.ServerLive(pb.ServerLiveRequest())).live
    assert (before.ready, after.ready) == (False, True)


async def test_model_is_ready_in_the_version_that_answers(service: Service) -> None:
    """Other versions and unknown models are not ready; that is no failure."""
    asked = [("quick", ""), ("quick_encoded", "2"), ("", ""), ("quick", "1"), ("nobody", "")]
    ready = [
        (await service.stub.ModelReady(pb.ModelReadyRequest(name=name, version=version))).ready
        for name, version in asked
    ]

    assert ready == [True, True, True, False, False]


async def test_statistics_are_of_both_doors_names(service: Service) -> None:
    """One count for a model, by whichever name; all models are listed once each."""
    await service.stub.ModelInfer(infer(1, 2))
    await service.stub.ModelInfer(files(png(1)))
    of_files = await service.stub.ModelStatistics(pb.ModelStatisticsRequest(name="quick_encoded"))
    of_all = await service.stub.ModelStatistics(pb.ModelStatisticsRequest())

    assert [(each.name, each.inference_count) for each in of_files.model_stats] == [("quick_encoded", 3)]
    assert [(each.name, each.inference_count) for each in of_all.model_stats] == [("other", 0), ("quick", 3)]


async def test_unload_and_load(service: Service) -> None:
    """An operator's requests are those of our own admin service; `unload_dependents` is taken."""
    unload = pb.RepositoryModelUnloadRequest(
        model_name="other", parameters={"unload_dependents": pb.ModelRepositoryParameter(bool_param=True)}
    )
    await service.stub.RepositoryModelUnload(unload)
    gone = await service.stub.ModelReady(pb.ModelReadyRequest(name="other"))
    await service.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="other"))
    back = await service.stub.ModelReady(pb.ModelReadyRequest(name="other"))

    assert (gone.ready, back.ready) == (False, True)
    assert service.engines.made.count("other/1") == 2


@pytest.mark.parametrize(
    ("request_message", "details"),
    [
        (
            pb.RepositoryModelLoadRequest(
                model_name="other",
                parameters={"file:1/model.pt": pb.ModelRepositoryParameter(bytes_param=b"evil")},
            ),
            "parameters: expected none, what is served lies in the repository; got file:1/model.pt",
        ),
        (
            pb.RepositoryModelLoadRequest(model_name="other", repository_name="elsewhere"),
            "repository_name: expected nothing, there is one repository; got 'elsewhere'",
        ),
        (
            pb.RepositoryModelLoadRequest(model_name="other_encoded"),
            "model_name: 'other_encoded' comes and goes with the model: expected 'other'",
        ),
        (pb.RepositoryModelLoadRequest(), "model_name: expected the name of a model, got none"),
    ],
)
async def test_load_takes_nothing_from_outside(
    service: Service, request_message: pb.RepositoryModelLoadRequest, details: str
) -> None:
    """No files, no configuration, no other repository: what is served lies in the repository."""
    failure = await failure_of(service.stub.RepositoryModelLoad(request_message))

    assert (failure.code(), failure.details()) == (grpc.StatusCode.INVALID_ARGUMENT, details)
    assert service.engines.made.count("other/1") == 1


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
async def test_only_operators_change_what_is_served(
    service: Service, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load and unload are for operators: without tokens, callers on the server's own machine."""
    monkeypatch.setattr(gate, "is_local", lambda _: False)
    make = getattr(pb, f"{method}Request")
    failure = await failure_of(getattr(service.stub, method)(make(model_name="other")))

    assert failure.code() == grpc.StatusCode.PERMISSION_DENIED
    assert (await service.stub.ModelReady(pb.ModelReadyRequest(name="other"))).ready
