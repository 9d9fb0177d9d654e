"""One guilty picture hurts nobody else; a broken engine ends the server, so that it is started afresh."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from tests.reliability.conftest import Figure, Scale
from tests.reliability.faulty.network import BREAKS, DEVICE_FAILS, HANG, POISON, picture, publish_faulty
from tests.server.process import ServerProcess, running_server

_INNOCENT = range(20, 220)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_faulty(tmp_path_factory.mktemp("faulty"))


@asynccontextmanager
async def faulty_server(
    repository: Path, *flags: str
) -> AsyncIterator[tuple[ServerProcess, "classifier_pb2_grpc.ClassifierServiceAsyncStub"]]:
    async with (
        running_server(
            "--repository", repository, "--default-model", "faulty", *flags, program="tests.reliability.faulty.server"
        ) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield server, classifier_pb2_grpc.ClassifierServiceStub(channel)


def request(shades: Sequence[int], *, model: str = "") -> pb.PredictRequest:
    return pb.PredictRequest(images=[pb.Image(rgb=picture(shade)) for shade in shades], model=model, top_k=10)


def mixed_requests(count: int, *, guilty_share: float) -> list[list[int]]:
    """Shades of requests of one to eight pictures, some of them guilty."""
    return [
        [POISON if random.random() < guilty_share else random.choice(_INNOCENT) for _ in range(random.randint(1, 8))]
        for _ in range(count)
    ]


def scores(result: pb.Result) -> list[float]:
    by_label = sorted((prediction.index, prediction.probability) for prediction in result.predictions)
    return [probability for _, probability in by_label]


async def test_guilty_picture_fails_alone(repository: Path, scale: Scale, figure: Figure) -> None:
    """T10, T12. In any mix exactly the pictures that the model fails on have an error, the others their own answers."""
    rounds = scale.choose(short=2, full=40)
    guilty = innocent = 0
    async with faulty_server(repository) as (server, stub):
        solo = {
            shade: scores((await stub.Predict(request([shade]))).results[0]) for shade in set(_INNOCENT)
        }  # fmt: skip
        for _ in range(rounds):
            wanted = mixed_requests(32, guilty_share=0.05)
            answers = await asyncio.gather(
                *(stub.Predict(request(shades)) for shades in wanted), return_exceptions=True
            )  # fmt: skip
            for shades, answer in zip(wanted, answers, strict=True):
                guilty += shades.count(POISON)
                innocent += len(shades) - shades.count(POISON)
                if set(shades) == {POISON}:
                    assert isinstance(answer, grpc.aio.AioRpcError)
                    assert (answer.code(), answer.details()) == (
                        grpc.StatusCode.INTERNAL,
                        "the model failed on this picture",
                    )
                    continue
                assert isinstance(answer, pb.PredictResponse), answer
                for shade, result in zip(shades, answer.results, strict=True):
                    assert result.error.code == (grpc.StatusCode.INTERNAL.value[0] if shade == POISON else 0)
                    if shade != POISON:
                        assert scores(result) == pytest.approx(solo[shade], abs=1e-5)
        failed = server.metric("cifarserve_failed_batches_total", cause="error")
        assert await server.stop() == 0

    assert guilty > 0
    assert failed >= 1
    figure(
        promise="one bad picture never hurts its batch-mates",
        tested=f"{rounds * 32:,} concurrent requests with pictures on which the forward pass raises mixed in",
        value=f"{guilty:,} guilty pictures failed alone, {innocent:,} neighbours got their own answers",
    )


async def test_batch_that_does_not_fit_is_halved(repository: Path, figure: Figure) -> None:
    """T13. A batch that is out of memory is computed in halves: every picture is answered, and the metric counts it."""
    shades = [random.choice(_INNOCENT) for _ in range(64)]
    async with faulty_server(repository) as (server, stub):
        answers = await asyncio.gather(*(stub.Predict(request(shades, model="small_memory")) for _ in range(8)))
        halved = server.metric("cifarserve_failed_batches_total", model="small_memory", cause="out_of_memory")

    assert [len(result.predictions) for answer in answers for result in answer.results] == [10] * 64 * 8
    assert halved >= 8
    figure(
        promise="a batch that is out of memory is halved, not lost",
        tested="8 requests of 64 pictures on a device that holds 8",
        value=f"0 of 512 pictures lost, {halved:.0f} halvings counted",
    )


async def break_engine(repository: Path, fault: int, reason: str) -> None:
    flags = ("--drain-delay-seconds", "0.5", "--max-stall-seconds", "2")
    async with (
        faulty_server(repository, *flags) as (server, stub),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        calls = [stub.Predict(request([shade])) for shade in (fault, *range(100, 110))]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.read_log("stopped")
        assert server.process.stderr is not None
        last_line = (await server.process.stderr.read()).decode().strip()
        status = await server.wait()

    assert {
        outcome.code() if isinstance(outcome, grpc.aio.AioRpcError) else grpc.StatusCode.OK for outcome in outcomes
    } <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert isinstance(outcomes[0], grpc.aio.AioRpcError)
    assert status == 1
    assert last_line == f"cifarserve-server: the engine of model 'faulty' failed: {reason}"


async def test_broken_engine_ends_the_server(repository: Path, figure: Figure) -> None:
    """T12. An engine that always fails, loses its device or hangs: NOT_SERVING, nobody waits in vain, status 1."""
    reasons = {
        BREAKS: "it fails on a picture that it has computed before",
        DEVICE_FAILS: "its device failed",
        HANG: "it has finished nothing for 2 s",
    }
    await asyncio.gather(*(break_engine(repository, fault, reason) for fault, reason in reasons.items()))

    figure(
        promise="a broken engine ends the server, for the orchestrator to restart it",
        tested="passes that always fail, a CUDA context that is lost, a pass that hangs, under 11 requests each",
        value="3 of 3: NOT_SERVING, every caller answered or UNAVAILABLE, exit status 1 with the reason in one line",
    )
