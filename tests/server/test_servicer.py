from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from server.admission import Admission
from server.batches import Answer
from server.catalog import Catalog
from server.conversions import to_response
from server.decoding import Decoder
from server.engines import Scores
from server.errors import InvalidImage
from server.images import ImageLimits
from server.interceptor import StatusInterceptor
from server.metrics import Metrics
from server.prediction import Predictor
from server.served import BatchLimits
from server.servicer import ClassifierServicer
from server.streams import Streams
from tests.conftest import make_card
from tests.fakes import FakeEngine
from tests.polling import eventually

if TYPE_CHECKING:
    from cifarserve.v1.classifier_pb2_grpc import ClassifierServiceAsyncStub


@dataclass
class Service:
    """The real service on a real socket, in front of fake engines."""

    stub: ClassifierServiceAsyncStub
    engine: FakeEngine
    metrics: Metrics
    streams: Streams
    address: str

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def service(repository: Path) -> AsyncIterator[Service]:
    engine = FakeEngine()
    metrics = Metrics()
    catalog = Catalog(
        repository,
        default_model="quick",
        make_engine=lambda folder: engine,  # noqa: ARG005
        limits=BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8),
        metrics=metrics,
        on_failure=pytest.fail,
    )
    decoder = Decoder(threads=1, limits=ImageLimits(max_bytes=10**6, max_pixels=10**6))
    streams = Streams()
    servicer = ClassifierServicer(catalog, Predictor(decoder, metrics), streams, max_images=8)
    server = grpc.aio.server(interceptors=[StatusInterceptor(metrics, Admission(), packages=["cifarserve.v1"])])
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with decoder:
        async with catalog, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Service(
                classifier_pb2_grpc.ClassifierServiceStub(channel), engine, metrics, streams, f"127.0.0.1:{port}"
            )
            engine.gate.set()
            await server.stop(None)


def picture(label: int) -> pb.Image:
    """A picture that the fake engine takes for `label`."""
    return pb.Image(rgb=bytes([label]) * 3072)


BAD = pb.Image(rgb=b"bad!")


async def failure_of(call: grpc.aio.UnaryUnaryCall[pb.PredictRequest, pb.PredictResponse]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value


async def test_predict_answers_with_label_model_and_timings(service: Service) -> None:
    """One picture gets its label, the id it came with, and the name of the weights that answered."""
    response = await service.stub.Predict(pb.PredictRequest(images=[picture(3)], id="mine"))

    [prediction] = response.results[0].predictions
    assert (prediction.label, prediction.index) == ("cat", 3)
    assert prediction.probability == pytest.approx(0.91)
    assert (response.id, response.model.name, response.model.version) == ("mine", "quick", 2)
    assert len(response.model.digest) == 64
    assert response.timings.total_ms > 0
    assert response.timings.batch_size == 1


async def test_predictions_are_sorted_and_top_k_long(service: Service) -> None:
    """top_k predictions come, most probable first."""
    response = await service.stub.Predict(pb.PredictRequest(images=[picture(5)], top_k=10))

    probabilities = [prediction.probability for prediction in response.results[0].predictions]
    assert len(probabilities) == 10
    assert probabilities == sorted(probabilities, reverse=True)
    assert response.results[0].predictions[0].label == "dog"


async def test_one_bad_picture_fails_alone(service: Service) -> None:
    """Among several pictures a bad one gets its error, its neighbours their answers, all in order."""
    response = await service.stub.Predict(pb.PredictRequest(images=[picture(1), BAD, picture(2)]))

    assert [result.predictions[0].label if result.predictions else "" for result in response.results] == [
        "automobile",
        "",
        "bird",
    ]
    assert response.results[1].error.code == 3
    assert response.results[1].error.message == "expected 3072 bytes (32x32 RGB), got 4"


@pytest.mark.parametrize(
    ("request_message", "code", "details"),
    [
        (pb.PredictRequest(), grpc.StatusCode.INVALID_ARGUMENT, "expected 1 to 8 images, got 0"),
        (
            pb.PredictRequest(images=[picture(0)] * 9),
            grpc.StatusCode.INVALID_ARGUMENT,
            "expected 1 to 8 images, got 9",
        ),
        (
            pb.PredictRequest(images=[picture(0)], top_k=0),
            grpc.StatusCode.INVALID_ARGUMENT,
            "top_k: expected 1 to 10, got 0",
        ),
        (
            pb.PredictRequest(images=[picture(0)], top_k=99),
            grpc.StatusCode.INVALID_ARGUMENT,
            "top_k: expected 1 to 10, got 99",
        ),
        (pb.PredictRequest(images=[BAD]), grpc.StatusCode.INVALID_ARGUMENT, "expected 3072 bytes (32x32 RGB), got 4"),
        (
            pb.PredictRequest(images=[pb.Image()]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "expected a JPEG or PNG file, got 0 bytes",
        ),
        (
            pb.PredictRequest(images=[picture(0)], model="nobody"),
            grpc.StatusCode.NOT_FOUND,
            "unknown model 'nobody': expected one of other, quick",
        ),
        (
            pb.PredictRequest(images=[picture(0)], version=1),
            grpc.StatusCode.NOT_FOUND,
            "version 1 of model 'quick' is not served: expected 2, or 0 for whichever is",
        ),
    ],
)
async def test_bad_request_gets_one_status_and_one_line(
    service: Service, request_message: pb.PredictRequest, code: grpc.StatusCode, details: str
) -> None:
    """Each way to ask wrongly has one status and a text with the fact and the expectation."""
    failure = await failure_of(service.stub.Predict(request_message))

    assert (failure.code(), failure.details()) == (code, details)


async def test_engine_failure_tells_nothing_of_the_inside(service: Service) -> None:
    """A model that raises is INTERNAL, with a neutral text."""
    service.engine.failure, service.engine.guilty = RuntimeError("secret path"), {0}
    failure = await failure_of(service.stub.Predict(pb.PredictRequest(images=[picture(0)])))

    assert failure.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in (failure.details() or "")


async def test_full_queue_refuses_with_a_time_to_retry(service: Service) -> None:
    """With the engine blocked and the queue full, the next request is refused and told when to retry."""
    service.engine.gate.clear()
    request = pb.PredictRequest(images=[picture(0)])
    accepted = [asyncio.ensure_future(service.stub.Predict(request))]
    await eventually(lambda: len(service.engine.batches) == 1)
    accepted += [asyncio.ensure_future(service.stub.Predict(request)) for _ in range(4)]
    await eventually(lambda: len(service.engine.batches) == 2)  # a full batch is put in place behind the first one
    accepted += [asyncio.ensure_future(service.stub.Predict(request)) for _ in range(8)]
    await eventually(lambda: service.count("cifarserve_queue_items", model="quick") == 8)
    failure = await failure_of(service.stub.Predict(request))
    service.engine.gate.set()
    answers = await asyncio.gather(*accepted)

    assert failure.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(failure.trailing_metadata() or ())["grpc-retry-pushback-ms"]) >= 1
    assert len(answers) == 13


async def test_expired_deadline_is_never_executed(service: Service) -> None:
    """A request whose deadline passes in the queue is DEADLINE_EXCEEDED and does not reach the engine."""
    service.engine.gate.clear()
    request = pb.PredictRequest(images=[picture(0)])
    first = asyncio.ensure_future(service.stub.Predict(request))
    await eventually(lambda: len(service.engine.batches) == 1)
    failure = await failure_of(service.stub.Predict(request, timeout=0.05))
    service.engine.gate.set()
    await first
    await service.stub.Predict(request)

    assert failure.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.engine.batches == [1, 1]


async def test_stream_answers_every_request_by_id(service: Service) -> None:
    """Each request of a stream is answered once; a bad one gets its error and the stream goes on."""

    async def requests() -> AsyncIterator[pb.PredictRequest]:
        for number in range(300):
            yield pb.PredictRequest(images=[picture(number % 10)] if number % 3 else [], id=str(number))

    answers = {answer.id: answer async for answer in service.stub.PredictStream(requests())}

    assert set(answers) == {str(number) for number in range(300)}
    for number in range(300):
        answer = answers[str(number)]
        if answer.error.code == 0:
            assert answer.results[0].predictions[0].index == number % 10
        else:
            assert answer.error.code in ({3} if number % 3 == 0 else {8})


async def test_drain_ends_a_stream_after_its_answers(service: Service) -> None:
    """When the server drains, a stream gets the answers it is owed and then UNAVAILABLE."""
    service.engine.gate.clear()
    call = service.stub.PredictStream()
    await call.write(pb.PredictRequest(images=[picture(4)], id="owed"))
    await eventually(lambda: len(service.engine.batches) == 1)
    service.streams.drain()
    service.engine.gate.set()
    answer = await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()

    assert isinstance(answer, pb.PredictResponse)
    assert answer.id == "owed"
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_client_that_leaves_a_stream_frees_its_place(service: Service) -> None:
    """A stream that the client cancels leaves nothing behind, and the others are served."""
    service.engine.gate.clear()
    call = service.stub.PredictStream()
    for _ in range(3):
        await call.write(pb.PredictRequest(images=[picture(4)]))
    await eventually(lambda: service.count("cifarserve_queue_items", model="quick") == 2)
    call.cancel()
    await eventually(lambda: service.count("cifarserve_requests_total", method="PredictStream", code="CANCELLED") == 1)
    service.engine.gate.set()
    await service.stub.Predict(pb.PredictRequest(images=[picture(1)]))

    assert service.engine.batches == [1, 1]


async def test_models_are_listed_with_what_is_served(service: Service) -> None:
    """The list names every model, its versions, and which of them answers."""
    response = await service.stub.ListModels(pb.ListModelsRequest())

    assert [
        (model.name, list(model.versions), model.serving.version, model.is_default) for model in response.models
    ] == [
        ("other", [1], 1, False),
        ("quick", [1, 2], 2, True),
    ]
    assert {model.state for model in response.models} == {pb.MODEL_STATE_READY}


async def test_model_is_described_by_its_card(service: Service) -> None:
    """GetModel tells architecture, labels, quality and the place where it runs."""
    response = await service.stub.GetModel(pb.GetModelRequest())

    assert (response.model.name, response.architecture, response.parameters) == ("quick", "quick", 145_578)
    assert list(response.labels)[3] == "cat"
    assert (response.device, response.precision, response.layout) == ("fake", "fp32", "channels_last")
    assert [(cost.batch_size, cost.milliseconds) for cost in response.batch_costs] == [(1, 1.0)]


async def test_metrics_agree_with_what_the_client_saw(service: Service) -> None:
    """Requests, images and labels are counted once each, by their outcome."""
    await service.stub.Predict(pb.PredictRequest(images=[picture(3), BAD, picture(3)]))
    await failure_of(service.stub.Predict(pb.PredictRequest()))

    assert service.count("cifarserve_requests_total", method="Predict", code="OK") == 1
    assert service.count("cifarserve_requests_total", method="Predict", code="INVALID_ARGUMENT") == 1
    assert service.count("cifarserve_images_total", model="quick", version="2", outcome="answered") == 2
    assert service.count("cifarserve_images_total", model="quick", version="2", outcome="invalid") == 1
    assert service.count("cifarserve_predictions_total", model="quick", label="cat") == 2
    assert service.count("cifarserve_batch_size_sum", model="quick") == 2
    assert service.count("cifarserve_batches_total", model="quick", reason="idle") == 1
    assert service.count("cifarserve_stage_seconds_count", stage="total") == 1


@settings(deadline=None)  # a busy machine may hold up any one of them
@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_k_bad_of_n_give_exactly_k_errors(readable: list[bool]) -> None:
    """Whatever the mix, each bad picture has its error and each good one its own label."""
    decoded = [bytes(3072) if good else InvalidImage("bad") for good in readable]
    scores = [Scores([place % 10], [1.0]) for place, good in enumerate(readable) if good]
    answer = Answer(scores, queue_seconds=0, compute_seconds=0, batch_size=len(scores))
    card = make_card("quick", "quick", 1, "0" * 64)
    results = to_response(
        pb.PredictRequest(), card, decoded, answer, decode_seconds=0.0, total_seconds=0.0, top_k=1
    ).results

    assert [bool(result.predictions) for result in results] == readable
    assert all(result.predictions[0].index == place % 10 for place, result in enumerate(results) if result.predictions)


async def test_picture_that_the_model_fails_on_fails_alone(service: Service) -> None:
    """Among several pictures the one that the model fails on gets its error, the others their answers, in order."""
    service.engine.failure, service.engine.guilty = RuntimeError("secret"), {7}
    response = await service.stub.Predict(pb.PredictRequest(images=[picture(1), BAD, picture(7), picture(2)]))

    assert [result.predictions[0].label if result.predictions else "" for result in response.results] == [
        "automobile",
        "",
        "",
        "bird",
    ]
    assert (response.results[1].error.code, response.results[2].error.code) == (3, 13)
    assert response.results[2].error.message == "the model failed on this picture"
    assert service.count("cifarserve_images_total", model="quick", version="2", outcome="failed") == 1


async def test_bytes_that_are_no_message_end_the_stream(service: Service) -> None:
    """On a stream, what cannot be parsed is INVALID_ARGUMENT; what came before is answered."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/cifarserve.v1.ClassifierService/PredictStream"
        )
        stream = call()
        await stream.write(pb.PredictRequest(images=[picture(3)]).SerializeToString())
        first = pb.PredictResponse.FromString(await stream.read())  # type: ignore[arg-type]
        await stream.write(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stream.read()

    assert first.results[0].predictions[0].label == "cat"
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
