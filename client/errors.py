"""Everything that can go wrong for a caller, and the one table from gRPC status codes to it.

ClientError
├── PictureMissing      a file or folder that was named holds no picture
├── OutputNotWritten    a file that was asked for cannot be written
├── BadCredentials      a file with a certificate, a key or a token cannot be read
├── NotTrusted          client and server do not accept each other's certificates, or only one speaks TLS
├── InvalidRequest      a picture, top_k or another part of the request is not acceptable
├── NotFound            the server has no such model, version or health service
├── AccessDenied        credentials are missing, wrong or not sufficient
├── NotPossible         the state of the server forbids it: a damaged version, a repository that is read-only
├── Overloaded          the server's queue was full, and still was after the retries
├── ServerUnavailable   nobody listens there, or the server is starting or stopping
├── DeadlineExceeded    no answer in time
├── ServerFailed        the model or the server failed; the server's log says why
└── UnexpectedStatus    any other gRPC status; the message names it
"""

import grpc


class ClientError(Exception):
    """Base of all errors of this package; the message is one line for a person."""


class PictureMissing(ClientError):
    """A file or folder that was named holds no picture."""


class OutputNotWritten(ClientError):
    """A file that was asked for cannot be written."""


class BadCredentials(ClientError):
    """A file with a certificate, a key or a token cannot be read."""


class NotTrusted(ClientError):
    """Client and server do not accept each other's certificates, or only one of them speaks TLS."""


class InvalidRequest(ClientError):
    """A picture, top_k or another part of the request is not acceptable."""


class NotFound(ClientError):
    """The server has no such model, version or health service."""


class AccessDenied(ClientError):
    """Credentials are missing, wrong or not sufficient."""


class NotPossible(ClientError):
    """The state of the server forbids it: a damaged version, a repository that is read-only."""


class Overloaded(ClientError):
    """The server's queue was full, and still was after the retries."""


class ServerUnavailable(ClientError):
    """Nobody listens there, or the server is starting or stopping."""


class DeadlineExceeded(ClientError):
    """No answer came in time."""


class ServerFailed(ClientError):
    """The model or the server failed; the server's log says why."""


class UnexpectedStatus(ClientError):
    """The server answered with a gRPC status that means nothing to this client."""


# The error and its text; {reason} is what the server wrote.
_ERRORS: dict[grpc.StatusCode, tuple[type[ClientError], str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidRequest, "{reason}"),
    grpc.StatusCode.NOT_FOUND: (NotFound, "{reason}"),
    grpc.StatusCode.UNAUTHENTICATED: (AccessDenied, "server at {target} refused access: {reason}"),
    grpc.StatusCode.PERMISSION_DENIED: (AccessDenied, "server at {target} refused access: {reason}"),
    grpc.StatusCode.FAILED_PRECONDITION: (NotPossible, "{reason}"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Overloaded, "server at {target} is overloaded: {reason}"),
    grpc.StatusCode.UNAVAILABLE: (ServerUnavailable, "server at {target} is unavailable: {reason}"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (DeadlineExceeded, "server at {target} was too slow: {reason}"),
    grpc.StatusCode.INTERNAL: (ServerFailed, "server at {target} failed: {reason}"),
    grpc.StatusCode.UNKNOWN: (ServerFailed, "server at {target} failed: {reason}"),
}
# What gRPC says of a handshake that failed, and what that means.
_DISTRUST = {
    "unable to get local issuer certificate": "the server's certificate is of no authority that is trusted (--ca-file)",
    "self-signed certificate": "the server's certificate is of no authority that is trusted (--ca-file)",
    "self signed certificate": "the server's certificate is of no authority that is trusted (--ca-file)",
    "certificate has expired": "the server's certificate has expired",
    "certificate is not yet valid": "the server's certificate is not yet valid",
    "Hostname Verification Check failed": "the server's certificate is for another name (--tls-server-name)",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS (leave out --tls)",
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate is not accepted",
}
# A server that wants TLS, or a certificate of the client, hangs up without a word. So does one that is ended.
_HUNG_UP = "Socket closed"
# gRPC's words for a server whose health says NOT_SERVING.
_UNHEALTHY = "backend unhealthy"
# grpc's enum members hold (number, name)
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def error_from_status(code: grpc.StatusCode | int, reason: str, *, target: str) -> ClientError:
    """Return the error for a status that the server at `target` gave, as a member or as its number."""
    known = _CODES.get(code) if isinstance(code, int) else code
    reason = " ".join(reason.split())  # one line, whatever the server wrote
    if known in _ERRORS:
        error, text = _ERRORS[known]
        return error(text.format(target=target, reason=reason or "it did not say why"))
    name = known.name if known else f"status {code}"
    return UnexpectedStatus(f"server at {target} answered {name}: {reason}")


def connection_error(details: str, *, target: str, tls: bool = False) -> ClientError:
    """Return the error for a connection that could not be made; `details` is gRPC's account of it."""
    for words, meaning in _DISTRUST.items():
        if words in details:
            return NotTrusted(f"no connection to {target}: {meaning}")
    if details.endswith(_HUNG_UP):
        wanted = "a certificate of this client, or another one (--certificate-file)" if tls else "TLS (--tls)"
        return ServerUnavailable(f"no connection to {target}: the server hung up; does it want {wanted}?")
    # The cause stands last: "... ipv4:127.0.0.1:50051: Failed to connect to remote host: Connection refused".
    reason = details.rpartition(": ")[2].rstrip("]") or "no connection"
    if reason == _UNHEALTHY:
        return ServerUnavailable(f"server at {target} is unavailable: it is starting or stopping")
    return ServerUnavailable(
        f"no server at {target}: {reason[0].lower()}{reason[1:]}; start one with cifarserve-server"
    )
