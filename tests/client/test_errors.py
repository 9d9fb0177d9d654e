import grpc
import pytest

from client import errors
from client.errors import (
    AccessDenied,
    BadCredentials,
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    NotPossible,
    NotTrusted,
    OutputNotWritten,
    Overloaded,
    PictureMissing,
    ServerFailed,
    ServerUnavailable,
    UnexpectedStatus,
    connection_error,
    error_from_status,
)

TARGET = "127.0.0.1:50051"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_is_a_client_error_of_one_line(code: grpc.StatusCode) -> None:
    """Whatever a server answers, the caller gets a ClientError whose message is one line with the reason."""
    error = error_from_status(code, "it is\n\tso", target=TARGET)

    assert isinstance(error, ClientError)
    assert str(error).endswith("it is so")


def test_every_error_has_a_status() -> None:
    """A new error cannot be forgotten in the table; four come from this side and have no status."""
    codes = [*grpc.StatusCode, 99]

    reached = {type(error_from_status(code, "no", target=TARGET)) for code in codes}

    own = {BadCredentials, NotTrusted, OutputNotWritten, PictureMissing}
    assert reached == set(ClientError.__subclasses__()) - own


@pytest.mark.parametrize(
    ("code", "expected", "message"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest, "because"),
        (grpc.StatusCode.NOT_FOUND, NotFound, "because"),
        (grpc.StatusCode.UNAUTHENTICATED, AccessDenied, "server at 127.0.0.1:50051 refused access: because"),
        (grpc.StatusCode.FAILED_PRECONDITION, NotPossible, "because"),
        (grpc.StatusCode.PERMISSION_DENIED, AccessDenied, "server at 127.0.0.1:50051 refused access: because"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded, "server at 127.0.0.1:50051 is overloaded: because"),
        (grpc.StatusCode.UNAVAILABLE, ServerUnavailable, "server at 127.0.0.1:50051 is unavailable: because"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded, "server at 127.0.0.1:50051 was too slow: because"),
        (grpc.StatusCode.INTERNAL, ServerFailed, "server at 127.0.0.1:50051 failed: because"),
        (grpc.StatusCode.UNKNOWN, ServerFailed, "server at 127.0.0.1:50051 failed: because"),
        (
            grpc.StatusCode.UNIMPLEMENTED,
            UnexpectedStatus,
            "server at 127.0.0.1:50051 answered UNIMPLEMENTED: because",
        ),
        (3, InvalidRequest, "because"),
        (99, UnexpectedStatus, "server at 127.0.0.1:50051 answered status 99: because"),
    ],
)
def test_what_a_status_becomes(code: grpc.StatusCode | int, expected: type[ClientError], message: str) -> None:
    """Statuses, as members or as the numbers in messages, have one error and one text each."""
    error = error_from_status(code, "because", target=TARGET)

    assert (type(error), str(error)) == (expected, message)


def test_a_server_that_gives_no_reason() -> None:
    """An empty reason does not leave an empty message."""
    assert str(error_from_status(grpc.StatusCode.NOT_FOUND, "", target=TARGET)) == "it did not say why"


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ("last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect: Connection refused", "connection refused"),
        ("errors resolving x:1: [field:address lookup failed for x:1: Domain name not found]", "domain name not found"),
        ("", "no connection"),
    ],
)
def test_connection_errors_say_the_cause(details: str, reason: str) -> None:
    """Of gRPC's long account of a failed connection only the cause is left."""
    error = connection_error(details, target=TARGET)

    assert str(error) == f"no server at {TARGET}: {reason}; start one with cifarserve-server"


def test_the_drawing_shows_every_error() -> None:
    """The tree at the top of the file is the tree in the file."""
    drawn = {line.split("── ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "── " in line}

    assert drawn == {error.__name__ for error in ClientError.__subclasses__()}


@pytest.mark.parametrize(
    ("details", "tls", "expected", "message"),
    [
        ("CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK", True, NotTrusted, "of no authority"),
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", True, NotTrusted, "has expired"),
        ("CERTIFICATE_VERIFY_FAILED: something new: OK", True, NotTrusted, "is not accepted"),
        ("UNAUTHENTICATED: Hostname Verification Check failed.", True, NotTrusted, "is for another name"),
        ("WRONG_VERSION_NUMBER: Invalid certificate verification context: OK", True, NotTrusted, "does not speak TLS"),
        ("UNAVAILABLE: ipv4:127.0.0.1:50051: Socket closed", False, ServerUnavailable, "does it want TLS"),
        ("UNAVAILABLE: ipv4:127.0.0.1:50051: Socket closed", True, ServerUnavailable, "a certificate of this client"),
    ],
)
def test_handshake_that_fails_says_what_to_look_at(
    details: str,
    tls: bool,  # noqa: FBT001
    expected: type[ClientError],
    message: str,
) -> None:
    """GRPC's account names OpenSSL's routines; ours, the file or the option."""
    error = connection_error(f"failed to connect to all addresses; last error: {details}", target=TARGET, tls=tls)

    assert type(error) is expected
    assert f"no connection to {TARGET}" in str(error)
    assert message in str(error)
