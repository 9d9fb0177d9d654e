"""Around every RPC: who may call. Of our own services: admission, errors to statuses, counting and timing."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from server.admission import Admission
from server.errors import InvalidArgument, ServingError
from server.metrics import Metrics
from server.parsing import parser_that_raises, parser_that_returns, refuse_unparsable
from server.security.behaviors import by_peer, limited, paced
from server.security.gate import Gate
from server.security.rate import RateLimit
from server.security.scopes import SCOPES
from server.statuses import STATUS, trailers_of
from server.telemetry.observer import Observer
from server.together import Together

_log = structlog.get_logger(__name__)

if TYPE_CHECKING:  # grpc's classes are generic only in their stubs; nobody here looks at the messages
    _Context = grpc.aio.ServicerContext[Any, Any]
    _Behavior = Callable[[Any, _Context], Awaitable[object]]
    _Handler = grpc.RpcMethodHandler[Any, Any]
    _Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]]

_EVERYBODY = Gate()


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Answers a ServingError with its status and text, and anything else with INTERNAL and no text.

    Works on coroutine methods, unary or streaming, of services in one of `packages`.
    """

    def __init__(
        self,
        metrics: Metrics,
        admission: Admission,
        *,
        packages: Sequence[str],
        gate: Gate = _EVERYBODY,
        limit: RateLimit | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._metrics = metrics
        self._admission = admission
        self._gate = gate
        self._asks_for_tokens = gate.asks_for_tokens
        self._limit = limit
        self._observer = observer
        self._prefixes = tuple(f"/{package}." for package in packages)
        self._guarded: dict[str, _Handler] = {}

    async def intercept_service(  # type: ignore[override]  # one handler type stands for all messages
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> _Handler:
        """Return the method's handler with its behavior guarded; built once per method."""
        method = handler_call_details.method
        if self._asks_for_tokens:
            try:
                self._gate.check_metadata(method, handler_call_details.invocation_metadata)
            except ServingError as refusal:
                return self._refuse(method, refusal)
        guarded = self._guarded.get(method)
        if guarded is not None:
            return guarded
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        # Other services' methods that not everybody may call, such as channelz, go through the same door.
        ours = method.startswith(self._prefixes) or self._gate.asks_for_peer(method)
        self._guarded[method] = self._guard(method, handler) if ours else refuse_unparsable(handler)
        return self._guarded[method]

    def _refuse(self, method: str, refusal: ServingError) -> _Handler:
        """Return a handler that refuses before the request is read, let alone parsed."""

        async def raise_it(*_: object) -> None:
            raise refusal

        # A caller's inventions must not become labels of metrics.
        return grpc.stream_stream_rpc_method_handler(self._wrap(method if method in SCOPES else "/unknown", raise_it))

    def _guard(self, full_name: str, handler: _Handler) -> _Handler:
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._wrap(full_name, self._protect(full_name, handler.stream_stream, paced)),  # type: ignore[arg-type]
                request_deserializer=parser_that_raises(handler.request_deserializer),  # type: ignore[arg-type]  # ours have one
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._wrap(full_name, self._protect(full_name, handler.unary_unary, limited)),  # type: ignore[arg-type]
            request_deserializer=parser_that_returns(handler.request_deserializer),  # type: ignore[arg-type]  # likewise
            response_serializer=handler.response_serializer,
        )

    def _protect(
        self, full_name: str, behavior: _Behavior, slow: Callable[[_Behavior, RateLimit], _Behavior]
    ) -> _Behavior:
        """Put around a behavior only what this server and this method need."""
        if self._limit:
            behavior = slow(behavior, self._limit)
        if self._gate.asks_for_peer(full_name):
            behavior = by_peer(behavior, self._gate)
        return behavior

    def _wrap(self, full_name: str, behavior: _Behavior) -> _Behavior:
        method = full_name.rsplit("/", 1)[1]
        seconds = self._metrics.request_seconds.labels(method)
        answered = self._metrics.requests.labels(method, grpc.StatusCode.OK.name)

        def count(answers_seconds: list[float]) -> None:
            answered.inc(len(answers_seconds))
            seconds.observe_all(answers_seconds)

        answers = Together(count)

        def count_failure(code: grpc.StatusCode, started: float) -> None:
            self._metrics.requests.labels(method, code.name).inc()
            seconds.observe(time.perf_counter() - started)

        async def guarded(request: object, context: _Context) -> object:
            started = time.perf_counter()
            try:
                if isinstance(request, InvalidArgument):
                    raise request
                with self._admission:
                    response = await behavior(request, context)
                answers.add(time.perf_counter() - started)
                return response
            except ServingError as exc:
                code = STATUS[type(exc)]
                count_failure(code, started)
                trailers = trailers_of(exc)
                # What is given here takes the place of what was set before, such as the request's id.
                await context.abort(code, str(exc), trailers and (*context.trailing_metadata(), *trailers))
            except Exception:  # noqa: BLE001  # the caller learns nothing of the inside, the log everything
                _log.exception("unexpected failure", method=method)
                count_failure(grpc.StatusCode.INTERNAL, started)
                await context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has the details")
            except BaseException:  # the caller went away
                count_failure(grpc.StatusCode.CANCELLED, started)
                raise

        return self._observer.observed(full_name.removeprefix("/"), guarded) if self._observer else guarded
