"""Which trace a call belongs to: W3C Trace Context, handed on to the server. Loads no library by itself."""

import os
import re
import sys

_TRACEPARENT = re.compile(r"[0-9a-f]{2}(-[0-9a-f]+){3}")


def trace_context() -> tuple[tuple[str, str], ...]:
    """Return the metadata that puts a call into the caller's trace; empty: there is none.

    It is that of the current span where the program uses OpenTelemetry, and else what the TRACEPARENT
    environment variable says, as a script that is traced itself would set it.
    """
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        if carrier:
            return tuple(carrier.items())
    traceparent = os.environ.get("TRACEPARENT", "")
    return (("traceparent", traceparent),) if _TRACEPARENT.fullmatch(traceparent) else ()
