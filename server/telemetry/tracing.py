"""Spans of OpenTelemetry for each RPC: rpc, and in it decode, queue and compute. Knows no exporter, and no gRPC."""

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.metrics import PredictRecord
from server.telemetry.record import RequestRecord

__all__ = ["Span", "Tracing"]

# The statuses that are a server's fault (OpenTelemetry's conventions for gRPC).
_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


class Tracing:
    """Makes spans of records."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("cifarserve")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, record: RequestRecord) -> tuple[Span, str]:
        """Begin an RPC's span, under the caller's if it sent one; return it, and its W3C `traceparent`."""
        carrier = {"traceparent": record.parent, "tracestate": record.state}
        service, _, method = record.method.rpartition("/")
        span = self._tracer.start_span(
            record.method,
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=record.started_ns,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        own: dict[str, str] = {}
        self._propagator.inject(own, context=trace.set_span_in_context(span))
        return span, own["traceparent"]

    def end(self, span: Span, record: RequestRecord) -> None:
        """End an RPC's span, with those of its stages when it answered exactly one request."""
        if span.is_recording():
            span.set_attributes(
                {
                    "rpc.response.status_code": record.code,
                    "cifarserve.request_id": record.id,
                    "cifarserve.answers": record.answers,
                    "client.address": record.peer,
                }
            )
            if record.code in _FAULTS:
                span.set_status(Status(StatusCode.ERROR))
            if record.answer and record.answers == 1:
                self._add_stages(span, record.answer, begun_ns=record.answered_ns - _ns(record.answer.total_seconds))
        span.end(record.started_ns + _ns(record.seconds))

    def _add_stages(self, span: Span, answer: PredictRecord, *, begun_ns: int) -> None:
        span.set_attributes({"cifarserve.model": answer.model, "cifarserve.version": answer.version})
        inside = trace.set_span_in_context(span)
        stages = (
            ("decode", answer.decode_seconds),
            ("queue", answer.queue_seconds),
            ("compute", answer.compute_seconds),
        )
        for name, seconds in stages:
            stage = self._tracer.start_span(name, context=inside, start_time=begun_ns)
            begun_ns += _ns(seconds)
            stage.end(begun_ns)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
