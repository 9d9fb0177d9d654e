"""A connection to a server: opening, closing, one unary call, and errors made of statuses. Knows no method."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import grpc

from client.channel import DEFAULT_MAX_ATTEMPTS, MAX_ATTEMPTS, open_channel
from client.credentials import NO_CREDENTIALS, Credentials
from client.errors import ClientError, DeadlineExceeded, connection_error, error_from_status
from client.tracing import trace_context

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_TIMEOUT_SECONDS = 30.0

# What grpc.aio reports, mostly, when the server ended a stream while it was being written to, whatever
# the server's status was: grpc/grpc#36066. Ours ends a stream only when it stops.
_STATUS_LOST = "Internal error from Core"

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Connection:
    """What every client of a server is: a target, a time limit for each call, and a channel inside `async with`."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        credentials: Credentials = NO_CREDENTIALS,
    ) -> None:
        """Connect to `target`, such as "host:50051", "dns:///host:50051" or "unix:/path", at the first call.

        Raises:
            ValueError: `max_attempts` is not 1 to 5.
        """
        if not 1 <= max_attempts <= MAX_ATTEMPTS:
            raise ValueError(f"max_attempts: expected 1 to {MAX_ATTEMPTS}, got {max_attempts}")
        self._target = target
        self._timeout_seconds = timeout_seconds
        self._max_attempts = max_attempts
        self._credentials = credentials
        self._metadata = credentials.to_metadata()

    async def __aenter__(self) -> Self:
        """Open the connection."""
        self._channel = self._open(healthy_only=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection; calls that are still under way are cancelled."""
        await self._channel.close()

    def _open(self, *, healthy_only: bool) -> grpc.aio.Channel:
        return open_channel(
            self._target, healthy_only=healthy_only, max_attempts=self._max_attempts, tls=self._credentials.tls
        )

    def _call_metadata(self) -> tuple[tuple[str, str], ...]:
        return (*self._metadata, *trace_context())

    async def _call(
        self,
        method: Callable[..., Awaitable[_Response]],
        request: _Request,
        *,
        timeout_seconds: float | None = None,
    ) -> _Response:
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            return await method(request, timeout=seconds, metadata=self._call_metadata())
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self._deadline_exceeded(seconds) from exc
            raise self._to_error(exc) from exc

    def _to_error(self, exc: grpc.aio.AioRpcError) -> ClientError:
        code, details = exc.code(), exc.details() or ""
        if details == _STATUS_LOST:
            code, details = grpc.StatusCode.UNAVAILABLE, "it ended the stream"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return self._deadline_exceeded(self._timeout_seconds)
        if code is grpc.StatusCode.UNAVAILABLE and not self._connected():
            return connection_error(details, target=self._target, tls=self._credentials.tls is not None)
        return error_from_status(code, details, target=self._target)

    def _connected(self) -> bool:
        return self._channel.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def _deadline_exceeded(self, seconds: float) -> DeadlineExceeded:
        return DeadlineExceeded(f"no answer from {self._target} within {seconds:g} s")
