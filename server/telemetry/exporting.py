"""From a server's spans to an OTLP collector: where it is, and all else, OpenTelemetry's own variables say."""

import contextlib
import os
import threading
from collections.abc import AsyncIterator

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from server.errors import StartError
from server.telemetry.tracing import Tracing

_PROTOCOL = "http/protobuf"
_PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_LAST_EXPORT_SECONDS = 3.0


@contextlib.asynccontextmanager
async def exported_tracing() -> AsyncIterator[Tracing]:
    """Export spans over OTLP/HTTP in the background; at the end, what is left within a few seconds.

    Raises:
        StartError: another protocol is asked for.
    """
    for variable in _PROTOCOL_VARIABLES:
        if os.environ.get(variable, _PROTOCOL) != _PROTOCOL:
            raise StartError(f"{variable}: expected {_PROTOCOL}, got {os.environ[variable]!r}")
    provider = TracerProvider(resource=Resource.create(_name()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Tracing(provider)
    finally:
        # A collector that does not answer must not hold up the end of the server.
        ending = threading.Thread(target=provider.shutdown, name="last export", daemon=True)
        ending.start()
        ending.join(_LAST_EXPORT_SECONDS)


def _name() -> dict[str, str]:
    """Return the service's name, unless the environment has one."""
    if "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        return {}
    return {"service.name": "cifarserve"}
