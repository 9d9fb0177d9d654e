"""The one table from the server's errors to gRPC status codes."""

import grpc

from server.errors import (
    AccessDenied,
    DeadlineExceeded,
    DeviceOutOfMemory,
    Draining,
    EngineFailed,
    EngineLost,
    InvalidArgument,
    InvalidImage,
    ModelNotFound,
    NotPossible,
    NotReady,
    Overloaded,
    ServingError,
    TooManyRequests,
    Unauthenticated,
)

STATUS: dict[type[ServingError], grpc.StatusCode] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidImage: grpc.StatusCode.INVALID_ARGUMENT,
    ModelNotFound: grpc.StatusCode.NOT_FOUND,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooManyRequests: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Draining: grpc.StatusCode.UNAVAILABLE,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    AccessDenied: grpc.StatusCode.PERMISSION_DENIED,
    NotPossible: grpc.StatusCode.FAILED_PRECONDITION,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    DeviceOutOfMemory: grpc.StatusCode.INTERNAL,
    EngineLost: grpc.StatusCode.UNAVAILABLE,
    EngineFailed: grpc.StatusCode.INTERNAL,
}


def trailers_of(error: ServingError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata that goes with an error: when to retry, where that is known.

    `grpc-retry-pushback-ms` is obeyed by gRPC's own retries (proposal A6, "Pushback").
    """
    if isinstance(error, Overloaded | TooManyRequests):
        return (("grpc-retry-pushback-ms", str(max(1, round(error.retry_after_seconds * 1000)))),)
    return ()
