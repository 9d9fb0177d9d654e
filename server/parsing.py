"""Bytes that are no message are the caller's fault: INVALID_ARGUMENT, where gRPC would blame the server.

Left alone, gRPC answers them with UNKNOWN and the text of Python's exception.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from server.errors import InvalidArgument
from server.statuses import STATUS

if TYPE_CHECKING:  # grpc's classes are generic only in their stubs; nobody here looks at the messages
    _Context = grpc.aio.ServicerContext[Any, Any]
    _Handler = grpc.RpcMethodHandler[Any, Any]
    _Parse = Callable[[bytes], Any]

_MESSAGE = "the message is not one of this method"


def parser_that_returns(parse: _Parse) -> _Parse:
    """For single requests: gRPC words what is raised, so the method is handed an `InvalidArgument` instead."""

    def parse_or_return(body: bytes) -> object:
        try:
            return parse(body)
        except DecodeError:
            return InvalidArgument(_MESSAGE)

    return parse_or_return


def parser_that_raises(parse: _Parse) -> _Parse:
    """For streams: `InvalidArgument` is raised where the method reads the request."""

    def parse_or_raise(body: bytes) -> object:
        try:
            return parse(body)
        except DecodeError as exc:
            raise InvalidArgument(_MESSAGE) from exc

    return parse_or_raise


def refuse_unparsable(handler: _Handler) -> _Handler:
    """Return the handler of a method that knows nothing of our errors, with unparsable requests refused."""
    kind = next(
        name for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream") if getattr(handler, name)
    )
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    parser = parser_that_raises if handler.request_streaming else parser_that_returns
    guarded: _Handler = make(
        _refusing(getattr(handler, kind)),
        request_deserializer=handler.request_deserializer and parser(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )
    return guarded


def _refusing(behavior: Callable[[Any, _Context], Any]) -> Callable[[Any, _Context], Any]:
    async def answer(request: object, context: _Context) -> object:
        if isinstance(request, InvalidArgument):
            await context.abort(STATUS[InvalidArgument], str(request))
        return await behavior(request, context)

    async def generate(request: object, context: _Context) -> AsyncIterator[object]:
        try:
            async for response in behavior(request, context):
                yield response
        except InvalidArgument as exc:
            await context.abort(STATUS[InvalidArgument], str(exc))

    return generate if inspect.isasyncgenfunction(behavior) else answer
