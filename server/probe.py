"""`python -m server.probe [SERVICE]`: whether the server on this machine answers, for a container's health check.

Reads the server's environment for its port, so that both always agree. Needs no shell and no client.
Source: grpc.health.v1, the protocol that Kubernetes' own gRPC probes speak.
"""

import sys
from collections.abc import Callable

import grpc
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
        status = ask(probed_address(ServerSettings(_cli_parse_args=False)), service)
    except ValidationError as exc:
        _fail(str(exc.errors()[0]["msg"]))
    except grpc.RpcError as exc:
        _fail(f"{exc.code().name}: {exc.details()}")
    print(status)
    if status != "SERVING":
        raise SystemExit(_NOT_SERVING)


def ask(address: str, service: str = "") -> str:
    """Return the name of the status of `service`, of the whole server when it is empty.

    Raises:
        grpc.RpcError: nobody answers at `address`, or the server knows no such service.
    """
    with grpc.insecure_channel(address) as channel:
        check: _HealthCheck = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        response = check(health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_SECONDS)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


def probed_address(settings: ServerSettings) -> str:
    """Return where a server with these settings is reached from its own machine."""
    host = "localhost" if settings.host in _ANY else settings.host
    return f"{host}:{settings.port}"


def _fail(message: str) -> None:
    print(f"cifarserve-probe: {message}", file=sys.stderr)
    raise SystemExit(_NOT_SERVING)


if __name__ == "__main__":
    main()
