"""A real server process that logs and traces, read from outside: its standard output, and an OTLP receiver."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from cifarserve.v1 import classifier_pb2 as pb
from tests.conftest import publish
from tests.polling import eventually
from tests.reliability.load import ONE_PICTURE, PREDICT
from tests.server.process import run_to_its_end, running_server

TRACE = "c" * 32


class Receiver:
    """An OTLP/HTTP collector.

    Attributes:
        spans: all that came, by name.
        services: the names of the services that sent them.
        url: where it listens.
    """

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.services: set[str] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def listening(self) -> Iterator[Receiver]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.services |= {
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans |= {span.name: span for span in scope.spans}


async def call(
    address: str, request: pb.PredictRequest, *metadata: tuple[str, str]
) -> tuple[grpc.StatusCode, dict[str, str | bytes]]:
    """Return the status and the trailers of one Predict."""
    async with grpc.aio.insecure_channel(address) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)
        calling = method(request.SerializeToString(), metadata=metadata, timeout=60)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await calling
        return await calling.code(), dict(await calling.trailing_metadata() or ())


@pytest.fixture(scope="module")
def small_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, which starts fast."""
    path = tmp_path_factory.mktemp("small")
    publish(path, "quick", seed=1)
    return path


async def test_requests_are_logged_and_traced(small_repository: Path, tmp_path: Path) -> None:
    """Ids go back in the trailers; each RPC has a line without pictures; its spans arrive at a collector."""
    log = tmp_path / "access.jsonl"
    flags = ("--repository", small_repository, "--access-log-share", "1", "--tracing")
    with Receiver().listening() as receiver, log.open("wb") as output:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with running_server(*flags, stdout=output, environment=environment) as server:
            parent = f"00-{TRACE}-{'d' * 16}-01"
            named = await call(server.address, ONE_PICTURE, ("x-request-id", "order-17"), ("traceparent", parent))
            unnamed = await call(server.address, ONE_PICTURE)
            refused = await call(server.address, pb.PredictRequest(model="nobody", images=ONE_PICTURE.images))
            await eventually(lambda: "compute" in receiver.spans, within_seconds=60)
            assert await server.stop() == 0

    assert [code.name for code, _ in (named, unnamed, refused)] == ["OK", "OK", "NOT_FOUND"]
    assert named[1]["x-request-id"] == "order-17"
    assert str(named[1]["traceparent"]).startswith(f"00-{TRACE}-")
    assert len(unnamed[1]["x-request-id"]) == 32
    assert unnamed[1]["traceparent"] != named[1]["traceparent"]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["id"] for line in lines] == [trailers["x-request-id"] for _, trailers in (named, unnamed, refused)]
    assert [line["code"] for line in lines] == ["OK", "OK", "NOT_FOUND"]
    assert lines[0]["trace_id"] == TRACE
    assert lines[0]["method"] == PREDICT.removeprefix("/")
    assert lines[0] | {"model": "quick", "version": 1, "images": 1} == lines[0]
    assert 0 < lines[0]["compute_ms"] < lines[0]["total_ms"]
    assert "model" not in lines[2]
    assert {"decode", "queue", "compute", PREDICT.removeprefix("/")} <= set(receiver.spans)
    assert receiver.services == {"cifarserve"}


async def test_collector_that_is_not_there_costs_nobody_an_answer(small_repository: Path) -> None:
    """The server answers, and ends in time with status 0."""
    flags = ("--repository", small_repository, "--tracing")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    async with running_server(*flags, environment=environment) as server:
        codes = [(await call(server.address, ONE_PICTURE))[0] for _ in range(3)]

        assert codes == [grpc.StatusCode.OK] * 3
        assert await server.stop() == 0


async def test_overload_tells_the_id_too(small_repository: Path) -> None:
    """Trailers that say when to retry do not take the place of the id."""
    flags = ("--repository", small_repository, "--access-log-share", "1")
    async with running_server(*flags, "--rate-limit-per-second", "0.001", "--rate-limit-burst", "1") as server:
        answered = await call(server.address, ONE_PICTURE, ("x-request-id", "one"))
        limited = await call(server.address, ONE_PICTURE, ("x-request-id", "two"))

    assert [answered[0], limited[0]] == [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert [trailers["x-request-id"] for _, trailers in (answered, limited)] == ["one", "two"]
    assert int(limited[1]["grpc-retry-pushback-ms"]) > 1000


def test_other_protocols_of_collectors_are_refused_at_the_start(
    small_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what is expected."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    ended = run_to_its_end("--repository", small_repository, "--tracing")

    assert ended.status == 1
    assert ended.last_line == "cifarserve-server: OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf, got 'grpc'"
