"""One guilty picture hurts nobody else; a broken engine ends the server, so that it is started afresh."""

import asyncio
import random
import signal
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
_INTERNAL = grpc.StatusCode.INTERNAL


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


def mixed_requests(count: int) -> list[list[int]]:
    """Shades of requests of one to eight pictures, every twentieth of which is guilty."""
    return [
        [POISON if random.random() < 1 / 20 else random.choice(_INNOCENT) for _ in range(random.randint(1, 8))]
        for _ in range(count)
    ]


def scores(result: pb.Result) -> list[float]:
    by_label = sorted((prediction.index, prediction.probability) for prediction in result.predictions)
    return [probability for _, probability in by_label]


def check(shades: Sequence[int], answer: pb.PredictResponse | BaseException, solo: dict[int, list[float]]) -> None:
    """Exactly the guilty pictures have an error, and the others what they got alone."""
    if set(shades) == {POISON}:
        assert isinstance(answer, grpc.aio.AioRpcError)
        assert (answer.code(), answer.details()) == (_INTERNAL, "the model failed on this picture")
        return
    assert isinstance(answer, pb.PredictResponse), answer
    for shade, result in zip(shades, answer.results, strict=True):
        if shade == POISON:
            assert result.error.code == _INTERNAL.value[0]
        else:
            assert scores(result) == pytest.approx(solo[shade], abs=1e-5)


async def test_one_bad_picture_or_a_full_memory_hurts_no_other(repository: Path, scale: Scale, figure: Figure) -> None:
    """T10, T12, T13. In any mix only the guilty pictures fail; a batch that is out of memory is computed in halves."""
    rounds = scale.choose(short=2, full=40)
    sent: list[int] = []
    async with faulty_server(repository) as (server, stub):
        ended = asyncio.create_task(server.read_on())
        solo = {shade: scores((await stub.Predict(request([shade]))).results[0]) for shade in _INNOCENT}
        for _ in range(rounds):
            wanted = mixed_requests(32)
            calls = [stub.Predict(request(shades)) for shades in wanted]
            for shades, answer in zip(wanted, await asyncio.gather(*calls, return_exceptions=True), strict=True):
                check(shades, answer, solo)
                sent += shades
        large = request(_INNOCENT[:64], model="small_memory")
        answers = await asyncio.gather(*(stub.Predict(large) for _ in range(8)))
        failed = server.metric("cifarserve_failed_batches_total", model="faulty", cause="error")
        halved = server.metric("cifarserve_failed_batches_total", model="small_memory", cause="out_of_memory")
        server.process.send_signal(signal.SIGTERM)
        assert await ended == 0

    assert sent.count(POISON) > 0
    assert failed >= 1
    assert [len(result.predictions) for answer in answers for result in answer.results] == [10] * 64 * 8
    assert halved >= 8
    figure(
        promise="one bad picture never hurts its batch-mates",
        tested=f"{rounds * 32:,} concurrent requests, one in twenty pictures makes the forward pass raise",
        value=f"{sent.count(POISON):,} guilty pictures failed alone;"
        f" {len(sent) - sent.count(POISON):,} neighbours got their own answers",
    )
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
