"""The whole server as a process, over real sockets."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from server.engines.restarting import MAX_RESTARTS
from tests.conftest import publish
from tests.server.process import ROOT, ServerProcess, engines_of, running_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ("cifarserve.v1.ClassifierService", "cifarserve.v1.ModelAdminService", "inference.GRPCInferenceService")
PICTURE = pb.Image(rgb=bytes(range(256)) * 12)


@pytest.fixture
async def server(repository: Path) -> AsyncIterator[ServerProcess]:
    async with running_server("--repository", repository, "--default-model", "quick") as server:
        yield server


async def predict(server: ServerProcess, request: pb.PredictRequest) -> pb.PredictResponse:
    async with grpc.aio.insecure_channel(server.address) as channel:
        return await classifier_pb2_grpc.ClassifierServiceStub(channel).Predict(request, timeout=10)


async def test_server_answers_and_stops_cleanly(server: ServerProcess) -> None:
    """A started server predicts, counts, and exits 0 on SIGTERM."""
    response = await predict(server, pb.PredictRequest(images=[PICTURE] * 3, top_k=10))
    answered = server.metric("cifarserve_images_total", outcome="answered")
    status = await server.stop()

    assert [len(result.predictions) for result in response.results] == [10, 10, 10]
    assert sum(prediction.probability for prediction in response.results[0].predictions) == pytest.approx(1.0, abs=1e-5)
    assert answered == 3
    assert status == 0
    assert [entry["event"] for entry in server.log][-1] == "stopped"


async def test_health_follows_the_server(repository: Path) -> None:
    """Health is SERVING per server, service and model, NOT_SERVING in the drain, and Watch sees the change."""
    async with (
        running_server("--repository", repository, "--default-model", "quick", "--drain-delay-seconds", "5") as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        names = ("", *SERVICES, "model/quick")
        ready = [(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in names]  # type: ignore[attr-defined]  # its types name no methods
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="model/quick"))  # type: ignore[attr-defined]
        first = await watch.read()
        server.process.send_signal(signal.SIGTERM)
        second = await watch.read()
        still = await classifier_pb2_grpc.ClassifierServiceStub(channel).Predict(pb.PredictRequest(images=[PICTURE]))

    assert ready == [SERVING] * 5
    assert (first.status, second.status) == (SERVING, NOT_SERVING)
    assert len(still.results) == 1


async def test_reflection_describes_the_contract(server: ServerProcess) -> None:
    """A client without the .proto can list the services."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # typed for blocking channels
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))  # type: ignore[operator]
        names = {service.name async for answer in call for service in answer.list_services_response.service}

    assert {*SERVICES, "grpc.health.v1.Health"} <= names


async def calls_that_channelz_tells_of(server: ServerProcess) -> int:
    """How many calls the server's operators are told of."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        get_servers: grpc.aio.UnaryUnaryMultiCallable[
            channelz_pb2.GetServersRequest, channelz_pb2.GetServersResponse
        ] = channel.unary_unary(
            "/grpc.channelz.v1.Channelz/GetServers",
            request_serializer=channelz_pb2.GetServersRequest.SerializeToString,
            response_deserializer=channelz_pb2.GetServersResponse.FromString,
        )
        return (await get_servers(channelz_pb2.GetServersRequest())).server[0].data.calls_started


async def test_channelz_is_not_there_unless_asked_for(server: ServerProcess) -> None:
    """It tells callers' addresses, so there is no such service without the flag."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await calls_that_channelz_tells_of(server)

    assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_channelz_tells_of_calls(repository: Path) -> None:
    """With --channelz, operators can look into the server's connections and calls."""
    async with running_server("--repository", repository, "--default-model", "quick", "--channelz") as server:
        assert await calls_that_channelz_tells_of(server) > 0


async def test_second_signal_forces_the_end(repository: Path) -> None:
    """A second SIGTERM ends the process at once, with another status."""
    async with running_server(
        "--repository", repository, "--default-model", "quick", "--drain-delay-seconds", "60"
    ) as server:
        server.process.send_signal(signal.SIGTERM)
        await server.read_log("draining")
        started = time.monotonic()
        status = await server.stop()

    assert status == 1
    assert time.monotonic() - started < 1


async def test_engine_that_keeps_dying_ends_the_server(repository: Path) -> None:
    """After its fourth death within a minute the server exits with status 1 and one line, to be started afresh."""
    async with running_server("--repository", repository, "--default-model", "quick") as server:
        for _ in range(MAX_RESTARTS):
            os.kill(engines_of(server.process.pid)[-1], signal.SIGKILL)
            await server.read_log("engine restarted")
        os.kill(engines_of(server.process.pid)[-1], signal.SIGKILL)
        await server.read_log("stopped")
        assert server.process.stderr is not None
        rest = (await server.process.stderr.read()).decode()
        status = await server.wait()

    assert status == 1
    assert rest.strip().startswith("cifarserve-server: the engine of model ")
    assert rest.strip().endswith("its process died, 4 times within 60 s")


async def test_message_over_the_cap_is_refused(repository: Path) -> None:
    """A request message over --max-message-bytes is refused by gRPC itself, and the server lives on."""
    flags = ("--repository", repository, "--default-model", "quick", "--max-message-bytes", "8192")
    async with running_server(*flags) as server:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await predict(server, pb.PredictRequest(images=[PICTURE] * 3))
        after = await predict(server, pb.PredictRequest(images=[PICTURE]))

    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(after.results) == 1


async def test_ten_thousand_images_are_refused(server: ServerProcess) -> None:
    """A request with far too many pictures is refused before any is decoded."""
    with pytest.raises(grpc.aio.AioRpcError, match="expected 1 to 1024 images, got 10000"):
        await predict(server, pb.PredictRequest(images=[pb.Image(encoded=b"x")] * 10_000))


def start(*flags: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "server", "--port", "0", "--metrics-port", "0", *map(str, flags)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def damaged(source: Path, target: Path) -> Path:
    """Copy a repository and flip a byte of every version of `quick`."""
    shutil.copytree(source, target)
    for weights in (target / "quick").glob("*/model.pt"):
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    return target


def test_taken_port_is_one_line(repository: Path) -> None:
    """A port that is in use ends the start with the port and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = start("--repository", repository, "--default-model", "quick", "--port", str(port))
        metrics = start("--repository", repository, "--default-model", "quick", "--metrics-port", str(port))

    assert (result.returncode, metrics.returncode) == (1, 1)
    assert last_line(result).startswith(f"cifarserve-server: cannot listen on 127.0.0.1:{port}: the port is taken")
    assert last_line(metrics).startswith(f"cifarserve-server: metrics address 127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--repository", "/nowhere"], 1, "repository /nowhere: No such file or directory"),
        (["--default-model", "nobody"], 1, "--default-model nobody: not in"),
        (["--default-model", ""], 1, "name one of other, quick with --default-model"),
        (["--max-batch-size", "0"], 2, "--max-batch-size: Input should be greater than or equal to 1"),
        (["--max-queue-delay-ms", "-1"], 2, "--max-queue-delay-ms: Input should be greater than or equal to 0"),
        (["--max-images-per-request", "9999"], 2, "must not exceed max_queue_items"),
        (["--model-control", "watch"], 2, "--model-control: Input should be 'poll', 'explicit' or 'none'"),
        (["--poll-interval-seconds", "0"], 2, "--poll-interval-seconds: Input should be greater than or equal to 0.05"),
        (["--device", "tpu"], 2, "--device: String should match pattern"),
    ],
)
def test_bad_start_is_one_actionable_line(repository: Path, flags: Sequence[str], status: int, message: str) -> None:
    """What prevents a start is said in one line, with a status that is not 0."""
    result = start("--repository", repository, "--default-model", "quick", *flags)

    assert result.returncode == status
    assert message in last_line(result)


def test_missing_gpu_is_one_line(repository: Path) -> None:
    """An explicit GPU that is absent is an error, not a silent CPU."""
    result = start("--repository", repository, "--default-model", "quick", "--device", "cuda:7")

    assert result.returncode == 1
    assert "--device cuda:7: this machine has" in last_line(result)


def test_damaged_checkpoint_is_one_line(repository: Path, tmp_path: Path) -> None:
    """Weights that are not what the card says end the start, and the file is named."""
    result = start("--repository", damaged(repository, tmp_path / "damaged"), "--default-model", "quick")

    assert result.returncode == 1
    assert "quick/2/model.pt: expected SHA-256" in last_line(result)


def test_missing_weights_are_one_line(tmp_path: Path) -> None:
    """A version without its weights ends the start, and the file is named."""
    (publish(tmp_path, "quick") / "model.pt").unlink()
    result = start("--repository", tmp_path)

    assert result.returncode == 1
    assert "quick/1/model.pt: No such file or directory" in last_line(result)


def test_unknown_architecture_is_one_line(tmp_path: Path) -> None:
    """A card that names a network that nobody registered ends the start."""
    card = publish(tmp_path, "quick") / "model.json"
    card.write_text(card.read_text().replace('"architecture": "quick"', '"architecture": "alexnet"'))
    result = start("--repository", tmp_path)

    assert result.returncode == 1
    assert "unknown architecture 'alexnet': expected one of basic_cnn, " in last_line(result)


def test_help_names_every_flag_with_its_default() -> None:
    """--help shows each knob once, with its help text."""
    result = start("--help")

    assert result.returncode == 0
    assert "--max-batch-size int" in result.stdout
    assert "(default: 64)" in result.stdout
