"""`python -m server.probe [SERVICE]`: whether the server on this machine answers, for a container's health check.

Reads the server's environment for its port and its certificate, so that both always agree. Needs no shell and no
client. Where clients must show a certificate, it shows the server's own.
Source: grpc.health.v1, the protocol that Kubernetes' own gRPC probes speak.
"""

import contextlib
import sys
from collections.abc import Callable

import grpc
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from server.settings import ServerSettings

_HealthCheck = Callable[..., health_pb2.HealthCheckResponse]  # the published stubs have no methods
_TIMEOUT_SECONDS = 4.0  # below the time that the image's HEALTHCHECK gives
_NOT_SERVING = 1
_ANY = ("0.0.0.0", "[::]", "::")  # noqa: S104  # addresses to listen on, none to connect to


def main() -> None:
    """Print what the server says of itself; exit 0 when that is SERVING, else 1."""
    service = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        settings = ServerSettings(_cli_parse_args=False)
        with connect(settings) as channel:
            status = ask(channel, service)
    except ValidationError as exc:
        _fail(str(exc.errors()[0]["msg"]))
    except OSError as exc:
        _fail(f"{exc.filename}: {exc.strerror}")
    except grpc.RpcError as exc:
        _fail(f"{exc.code().name}: {exc.details()}")
    print(status)
    if status != "SERVING":
        raise SystemExit(_NOT_SERVING)


def connect(settings: ServerSettings) -> grpc.Channel:
    """Return a channel to a server with these settings on this machine; with TLS, to nobody but it.

    Raises:
        OSError: its certificate or key cannot be read.
    """
    address = probed_address(settings)
    if settings.tls_certificate is None or settings.tls_key is None:
        return grpc.insecure_channel(address)
    own = settings.tls_certificate.read_bytes()
    shown = (settings.tls_key.read_bytes(), own) if settings.tls_client_ca else (None, None)
    options = [("grpc.ssl_target_name_override", _name_in(own))]  # it need not be for this machine's address
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(own, *shown), options)


def ask(channel: grpc.Channel, service: str = "") -> str:
    """Return the name of the status of `service`, of the whole server when it is empty.

    Raises:
        grpc.RpcError: nobody answers, or the server knows no such service.
    """
    check: _HealthCheck = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
    response = check(health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_SECONDS)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


def probed_address(settings: ServerSettings) -> str:
    """Return where a server with these settings is reached from its own machine."""
    host = "localhost" if settings.host in _ANY else settings.host
    return f"{host}:{settings.port}"


def _name_in(pem: bytes) -> str:
    """Return a name that a certificate is for; empty when it says none."""
    with contextlib.suppress(ValueError, x509.ExtensionNotFound):
        certificate = x509.load_pem_x509_certificate(pem)
        for name in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value:
            return str(name.value)
    return ""


def _fail(message: str) -> None:
    print(f"cifarserve-probe: {message}", file=sys.stderr)
    raise SystemExit(_NOT_SERVING)


if __name__ == "__main__":
    main()
