"""Several server processes behind one port: the supervisor with stand-ins, and the whole server over real sockets."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from cifarserve.v1 import admin_pb2, admin_pb2_grpc, classifier_pb2, classifier_pb2_grpc
from server.cpus import usable_cpus
from server.workers import Workers
from tests.conftest import publish
from tests.polling import eventually
from tests.server.process import ServerProcess, children_of, run_to_its_end, running_server

TWO_WORKERS = ("--workers", "2", "--max-batch-size", "4", "--precision", "fp32")  # warmed up soon
PICTURE = classifier_pb2.Image(rgb=bytes(range(256)) * 12)
two_cpus = pytest.mark.skipif(usable_cpus() < 2, reason="two workers need two CPUs")

_BEGIN = "import json, signal, socket, sys; link = socket.socket(fileno=0); place = json.loads(link.recv(1024))"
# What a stand-in for a worker does with `link`, its connection, once it has been told its place.
WAITS = "link.send(b'R'); link.recv(1)"
REFUSES = "link.send(b'Fthe repository is gone'); sys.exit(1)"
CRASHES = "sys.exit(3)"
LEAVES = "sys.exit(0)"
HANGS = "link.send(b'R'); signal.pause()"
NEVER_READY = "link.recv(1)"


class Heard:
    """What a supervisor was told."""

    def __init__(self) -> None:
        self.ready = 0
        self.failures: list[str] = []

    def on_ready(self) -> None:
        self.ready += 1


def stand_ins(heard: Heard, behavior: str, *, folder: Path, count: int = 2) -> Workers:
    return Workers(
        [sys.executable, "-S", "-c", f"{_BEGIN}; {behavior}"],
        count=count,
        port=50051,
        metrics_folder=str(folder),
        on_ready=heard.on_ready,
        on_failure=heard.failures.append,
    )


async def test_ready_when_all_are_ready(tmp_path: Path) -> None:
    """The server is ready once, when the last worker is; leaving is no failure."""
    heard = Heard()
    async with stand_ins(heard, WAITS, folder=tmp_path, count=3):
        await eventually(lambda: heard.ready == 1, within_seconds=30)

    assert (heard.ready, heard.failures) == (1, [])


async def test_one_that_is_not_ready_holds_all(tmp_path: Path) -> None:
    """A worker that still loads makes the server not ready, whatever the others say."""
    heard = Heard()
    behavior = f"place['number'] == 1 and (link.send(b'R'), sys.exit(3)); {NEVER_READY}"
    async with stand_ins(heard, behavior, folder=tmp_path):
        await eventually(lambda: bool(heard.failures), within_seconds=30)  # so it was heard that one was ready

    assert heard.ready == 0


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        (REFUSES, "the repository is gone"),
        (CRASHES, "worker 1 ended by itself with status 3"),
        (LEAVES, "worker 1 ended by itself with status 0"),
    ],
)
async def test_end_of_a_worker_is_told_with_its_reason(tmp_path: Path, behavior: str, reason: str) -> None:
    """A worker that ends by itself is a failure; its own words are passed on, where there are any."""
    heard = Heard()
    async with stand_ins(heard, behavior, folder=tmp_path, count=1):
        await eventually(lambda: bool(heard.failures), within_seconds=30)

    assert heard.failures == [reason]


async def test_kill_ends_what_does_not_drain(tmp_path: Path) -> None:
    """A worker that hangs is ended by force, and that is a failure."""
    heard = Heard()
    async with stand_ins(heard, HANGS, folder=tmp_path) as workers:
        await eventually(lambda: heard.ready == 1, within_seconds=30)
        workers.kill()

    assert sorted(heard.failures) == ["worker 1 was ended by SIGKILL", "worker 2 was ended by SIGKILL"]


@pytest.fixture
def small_repository(tmp_path: Path) -> Path:
    publish(tmp_path / "models", "quick")
    return tmp_path / "models"


@contextlib.asynccontextmanager
async def connections(server: ServerProcess, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Open connections of their own; the kernel deals them out to the workers."""
    async with contextlib.AsyncExitStack() as stack:
        options = (("grpc.use_local_subchannel_pool", 1),)
        yield [
            await stack.enter_async_context(grpc.aio.insecure_channel(server.address, options)) for _ in range(count)
        ]


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def is_running(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@contextlib.contextmanager
def none_left(pids: list[int]) -> Iterator[None]:
    """End these processes when the test fails."""
    try:
        yield
    finally:
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)


def metrics_folder(worker: int) -> Path:
    environment = Path(f"/proc/{worker}/environ").read_bytes().decode().split("\0")
    [folder] = [line.partition("=")[2] for line in environment if line.startswith("PROMETHEUS_MULTIPROC_DIR=")]
    return Path(folder)


@two_cpus
async def test_workers_share_connections_and_add_up_their_metrics(small_repository: Path) -> None:
    """Both workers answer on one port, the one page counts the requests of both, and SIGTERM drains both."""
    async with running_server("--repository", small_repository, *TWO_WORKERS) as server:
        workers = children_of(server.process.pid)
        folder = metrics_folder(workers[0])
        before = list(map(open_files, workers))
        async with connections(server, 24) as channels:
            stubs = [classifier_pb2_grpc.ClassifierServiceStub(channel) for channel in channels] * 2
            request = classifier_pb2.PredictRequest(images=[PICTURE] * 3)
            answers = await asyncio.gather(*(stub.Predict(request, timeout=30) for stub in stubs))
            after = list(map(open_files, workers))
        counted = {
            "requests": server.metric("cifarserve_requests_total", method="Predict", code="OK"),
            "seconds": server.metric("cifarserve_request_seconds_count", method="Predict"),
            "images": server.metric("cifarserve_images_total", outcome="answered", model="quick"),
            "executed": server.metric("cifarserve_executed_images_total"),
            "loads": server.metric("cifarserve_model_loads_total", outcome="success"),
            "version": server.metric("cifarserve_model_version", model="quick"),
        }
        status = await server.stop()

    assert len(workers) == 2
    assert all(later > earlier for earlier, later in zip(before, after, strict=True))
    assert len(answers) == 48
    assert counted == {
        "requests": 48, "seconds": 48, "images": 144, "executed": 144, "loads": 2, "version": 1
    }  # fmt: skip
    assert status == 0
    assert [entry["event"] for entry in server.log].count("ready") == 1
    assert sorted(str(entry["worker"]) for entry in server.log if entry["event"] == "draining") == ["1", "2"]
    assert server.log[-1]["event"] == "stopped"
    assert not folder.exists()


@two_cpus
async def test_operators_requests_reach_every_worker(small_repository: Path) -> None:
    """What one worker is asked to load, reload and unload, all do; a supervisor that is killed leaves none behind."""
    flags = (*TWO_WORKERS, "--model-control", "explicit", "--poll-interval-seconds", "0.2")
    async with running_server("--repository", small_repository, *flags) as server:
        pids = children_of(server.process.pid)
        folder = metrics_folder(pids[0])
        async with connections(server, 12) as channels:
            admin = admin_pb2_grpc.ModelAdminServiceStub(channels[0])
            stubs = [classifier_pb2_grpc.ClassifierServiceStub(channel) for channel in channels]

            await admin.Load(admin_pb2.LoadRequest(name="quick"), timeout=30)
            await _all_say(stubs, classifier_pb2.MODEL_STATE_READY)
            await admin.Reload(admin_pb2.ReloadRequest(name="quick"), timeout=30)
            await eventually(
                lambda: server.metric("cifarserve_model_loads_total", outcome="success") == 4, within_seconds=30
            )
            await admin.Unload(admin_pb2.UnloadRequest(name="quick"), timeout=30)
            await _all_say(stubs, classifier_pb2.MODEL_STATE_UNAVAILABLE)
            infos = server.metric("cifarserve_model_info")
        with none_left(pids):
            server.process.kill()
            await eventually(lambda: not any(map(is_running, pids)), within_seconds=30)
        shutil.rmtree(folder)  # what a supervisor leaves that could not end in order

    assert infos == 0


async def _all_say(stubs: "Sequence[classifier_pb2_grpc.ClassifierServiceAsyncStub]", state: int) -> None:
    """Wait until every connection's worker says so of the model."""
    deadline = time.monotonic() + 30
    request = classifier_pb2.ListModelsRequest()
    while True:
        answers = await asyncio.gather(*(stub.ListModels(request, timeout=30) for stub in stubs))
        states = {model.state for answer in answers for model in answer.models}
        if states == {state}:
            return
        assert time.monotonic() < deadline, f"states {states}, expected {state} alone"
        await asyncio.sleep(0.05)


@two_cpus
async def test_worker_that_dies_ends_the_server(small_repository: Path) -> None:
    """When a worker was killed the others drain, and the server exits with status 1 and one line."""
    async with running_server("--repository", small_repository, *TWO_WORKERS) as server:
        pids = children_of(server.process.pid)
        os.kill(pids[0], signal.SIGKILL)
        await server.read_log("draining")
        assert server.process.stderr is not None
        rest = (await server.process.stderr.read()).decode()
        status = await server.wait()

    assert status == 1
    assert re.fullmatch(r"cifarserve-server: worker [12] was ended by SIGKILL", rest.strip().splitlines()[-1])
    assert not any(map(is_running, pids))


@two_cpus
async def test_second_signal_ends_all_at_once(small_repository: Path) -> None:
    """A second SIGTERM kills workers that do not end by themselves yet, and leaves nothing behind."""
    flags = ("--repository", small_repository, *TWO_WORKERS)
    async with running_server(*flags, wait_until="listening") as server:
        pids = children_of(server.process.pid)
        with none_left(pids):
            folder = metrics_folder(pids[0])
            server.process.send_signal(signal.SIGTERM)
            await server.read_log("stopping")
            status = await server.stop()

    assert status == 1
    assert "ready" not in [entry["event"] for entry in server.log]
    assert not any(map(is_running, pids))
    assert not folder.exists()


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--workers", "0"], 2, "--workers: Input should be greater than or equal to 1"),
        (
            ["--workers", str(usable_cpus() + 1)],
            1,
            f"--workers {usable_cpus() + 1}: this process may use {usable_cpus()} CPUs; expected 1 to {usable_cpus()}",
        ),
        pytest.param(["--workers", "2", "--repository", "/nowhere"], 1, "repository /nowhere: No such", marks=two_cpus),
    ],
)
def test_bad_start_is_one_line(flags: list[str], status: int, message: str) -> None:
    """What prevents a start is said once, however many workers find it out."""
    ended = run_to_its_end(*flags)

    assert ended.status == status
    assert message in ended.last_line
    assert ended.log.count(message) == 1
    assert "Traceback" not in ended.log
