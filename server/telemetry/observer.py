"""Around every RPC, when somebody wants to be told of it: the request's id, its record, and where that goes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc

from server.errors import StartError
from server.metrics import Metrics
from server.security.gate import CALLER
from server.settings import ServerSettings
from server.telemetry.access_log import AccessLog
from server.telemetry.record import CURRENT, RequestRecord
from server.telemetry.request_id import REQUEST_ID, request_id, value_of

if TYPE_CHECKING:
    from server.telemetry.tracing import Span, Tracing

    _Context = grpc.aio.ServicerContext[Any, Any]
    _Behavior = Callable[[Any, _Context], Awaitable[object]]


class Observer:
    """Tells the access log and the trace of RPCs; each that is told of has an id, which goes back in its trailers."""

    def __init__(self, *, access_log: AccessLog | None = None, tracing: Tracing | None = None) -> None:
        self._access_log = access_log
        self._tracing = tracing

    def observed(self, method: str, behavior: _Behavior) -> _Behavior:
        """Put this around a behavior.

        Args:
            method: its name, as package.Service/Method.
            behavior: ends every failure with `abort`.
        """

        async def observe(request: object, context: _Context) -> object:
            logs = self._access_log is not None and self._access_log.wants_one()
            if not logs and self._tracing is None:  # nobody will be told: it costs no more than to find that out
                return await behavior(request, context)
            metadata = context.invocation_metadata() or ()
            identity = request_id(metadata)
            context.set_trailing_metadata(((REQUEST_ID, identity),))
            record = RequestRecord(
                identity,
                method,
                context.peer(),
                CALLER.get(),
                time.time_ns(),
                parent=value_of(metadata, "traceparent"),
                state=value_of(metadata, "tracestate"),
            )
            with self._telling(record, context, logs=logs):
                return await behavior(request, context)

        return observe

    @contextlib.contextmanager
    def _telling(self, record: RequestRecord, context: _Context, *, logs: bool) -> Iterator[None]:
        CURRENT.set(record)
        started = time.perf_counter()
        span = self._begin_span(record, context)
        try:
            yield
            record.code = grpc.StatusCode.OK.name
        except asyncio.CancelledError:
            record.code = grpc.StatusCode.CANCELLED.name
            raise
        except BaseException:  # it was aborted
            record.code = (context.code() or grpc.StatusCode.UNKNOWN).name
            raise
        finally:
            record.seconds = time.perf_counter() - started
            if self._tracing and span:
                self._tracing.end(span, record)
            if self._access_log and logs:
                self._access_log.write(record)

    def _begin_span(self, record: RequestRecord, context: _Context) -> Span | None:
        if self._tracing is None:
            return None
        span, traceparent = self._tracing.begin(record)
        record.parent = traceparent
        context.set_trailing_metadata(((REQUEST_ID, record.id), ("traceparent", traceparent)))
        return span


@contextlib.asynccontextmanager
async def observing(settings: ServerSettings, metrics: Metrics) -> AsyncIterator[Observer | None]:
    """Open what the settings ask for, while the block lasts; None when they ask for nothing.

    Raises:
        StartError: tracing is not installed, or its environment variables make no sense.
    """
    if not settings.access_log_share and not settings.tracing:
        yield None
        return
    async with contextlib.AsyncExitStack() as stack:
        access_log = tracing = None
        if settings.access_log_share:
            access_log = stack.enter_context(
                AccessLog(settings.access_log_share, on_lost=metrics.lost_access_lines.inc)
            )
        if settings.tracing:
            try:
                from server.telemetry.exporting import exported_tracing  # noqa: PLC0415  # imports OpenTelemetry
            except ImportError as exc:
                raise StartError(f"--tracing: {exc}; expected: pip install 'cifarserve[tracing]'") from exc
            tracing = await stack.enter_async_context(exported_tracing())
        yield Observer(access_log=access_log, tracing=tracing)
