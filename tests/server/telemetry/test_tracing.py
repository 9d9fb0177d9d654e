import os
import subprocess
import sys
from collections.abc import Mapping

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from server.metrics import PredictRecord
from server.telemetry.record import RequestRecord
from server.telemetry.tracing import Tracing
from tests.conftest import ROOT

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
NOT_SAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"
ANSWER = PredictRecord(
    "quick", 2, ["cat"], confidence=0.9, invalid=0, failed=0, decode_seconds=0.001, total_seconds=0.007,
    queue_seconds=0.002, compute_seconds=0.004,
)  # fmt: skip


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


def request(parent: str = "", *answers: PredictRecord, code: str = "OK") -> RequestRecord:
    record = RequestRecord("id-1", "a.B/Predict", "ipv4:10.0.0.1:5", "", 1_000_000_000, parent=parent, state="x=y")
    for answer in answers:
        record.note(answer)
    record.code, record.seconds = code, 0.009
    return record


def spans_of(exporter: InMemorySpanExporter) -> Mapping[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def milliseconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e6


def test_stages_lie_one_after_the_other_in_the_rpc(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    """Four spans of one trace, which is the caller's; each stage begins where the one before it ends."""
    record = request(PARENT, ANSWER)
    span, traceparent = tracing.begin(record)
    tracing.end(span, record)

    spans = spans_of(exporter)
    rpc = spans["a.B/Predict"]
    assert rpc.kind is SpanKind.SERVER
    assert rpc.parent is not None
    own = rpc.get_span_context()
    assert own is not None
    assert f"{rpc.parent.span_id:x}" == "b" * 16
    assert traceparent == f"00-{'a' * 32}-{own.span_id:016x}-01"
    assert {name: milliseconds(each) for name, each in spans.items()} == pytest.approx(
        {"a.B/Predict": 9, "decode": 1, "queue": 2, "compute": 4}
    )
    assert spans["decode"].end_time == spans["queue"].start_time
    assert spans["queue"].end_time == spans["compute"].start_time
    assert {each.parent.span_id for name, each in spans.items() if name != "a.B/Predict" and each.parent} == {
        own.span_id
    }
    assert rpc.attributes is not None
    assert rpc.attributes["cifarserve.request_id"] == "id-1"
    assert rpc.attributes["cifarserve.model"] == "quick"


def test_caller_that_does_not_sample_has_no_spans(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    """The caller's decision is kept (W3C Trace Context, section 3.2.2.5), and handed on."""
    record = request(NOT_SAMPLED, ANSWER)
    span, traceparent = tracing.begin(record)
    tracing.end(span, record)

    assert not exporter.get_finished_spans()
    assert traceparent.startswith(f"00-{'a' * 32}-")
    assert traceparent.endswith("-00")


@pytest.mark.parametrize("parent", ["", "rubbish", f"00-{'0' * 32}-{'b' * 16}-01"])
def test_without_a_caller_s_trace_a_new_one_begins(
    tracing: Tracing, exporter: InMemorySpanExporter, parent: str
) -> None:
    """So it does when the header makes no sense."""
    record = request(parent, ANSWER)
    span, _ = tracing.begin(record)
    tracing.end(span, record)

    assert spans_of(exporter)["a.B/Predict"].parent is None


@pytest.mark.parametrize(
    ("code", "status"), [("OK", StatusCode.UNSET), ("INTERNAL", StatusCode.ERROR), ("NOT_FOUND", StatusCode.UNSET)]
)
def test_only_the_server_s_faults_are_errors(
    tracing: Tracing, exporter: InMemorySpanExporter, code: str, status: StatusCode
) -> None:
    """A caller's mistake is no failure of this server."""
    record = request(code=code)
    span, _ = tracing.begin(record)
    tracing.end(span, record)

    assert spans_of(exporter)["a.B/Predict"].status.status_code is status


def test_stream_of_several_requests_is_one_span(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    """A stream may answer millions."""
    record = request("", ANSWER, ANSWER)
    span, _ = tracing.begin(record)
    tracing.end(span, record)

    [rpc] = exporter.get_finished_spans()
    assert rpc.attributes is not None
    assert rpc.attributes["cifarserve.answers"] == 2


def test_off_it_is_not_even_imported() -> None:
    """A server without --tracing never loads OpenTelemetry, nor one without TLS the library of certificates."""
    program = (
        "import sys, server.app; print([name for name in ('opentelemetry', 'cryptography') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.strip() == "[]"
