"""The operators' door: `cifarserve.v1.ModelAdminService`. Looks who asks; then converts, calls, converts."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import unquote

from cifarserve.v1 import admin_pb2 as pb
from cifarserve.v1 import admin_pb2_grpc
from models.repository import is_model_name
from server.errors import AccessDenied, InvalidArgument
from server.following import ModelStatus
from server.operations import Operations

if TYPE_CHECKING:
    from server.calls import Context


class ModelAdminServicer(admin_pb2_grpc.ModelAdminServiceServicer):
    """Answers operators on the server's own machine. Raises `ServingError`; the interceptor makes statuses of it."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        """Tell of every version of a model."""
        status = await self._operations.versions(_admit(request.name, context))
        return pb.ListVersionsResponse(model=to_model_versions(status))

    async def Load(self, request: pb.LoadRequest, context: Context) -> pb.LoadResponse:
        """Serve a model."""
        status = await self._operations.load(_admit(request.name, context))
        return pb.LoadResponse(model=to_model_versions(status))

    async def Unload(self, request: pb.UnloadRequest, context: Context) -> pb.UnloadResponse:
        """Serve a model no more."""
        name = _admit(request.name, context)
        if not name:
            raise InvalidArgument("name: expected the name of the model to unload, got none")
        return pb.UnloadResponse(model=to_model_versions(await self._operations.unload(name)))

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.RollbackResponse:
        """Pin a model to a version."""
        name = _admit(request.name, context)
        if request.version < 1:
            raise InvalidArgument(f"version: expected a number from 1, got {request.version}")
        return pb.RollbackResponse(model=to_model_versions(await self._operations.pin(name, request.version)))

    async def Unpin(self, request: pb.UnpinRequest, context: Context) -> pb.UnpinResponse:
        """End a pin."""
        status = await self._operations.unpin(_admit(request.name, context))
        return pb.UnpinResponse(model=to_model_versions(status))

    async def Reload(self, request: pb.ReloadRequest, context: Context) -> pb.ReloadResponse:
        """Load a model afresh."""
        status = await self._operations.reload(_admit(request.name, context))
        return pb.ReloadResponse(model=to_model_versions(status))


def to_model_versions(status: ModelStatus) -> pb.ModelVersions:
    """Return the message that tells of every version of a model."""
    refused = {version.version: version.reason for version in status.refused}
    serving = status.served.card.version if status.served else 0
    numbers = sorted({*status.versions, *filter(None, (serving, status.loading_version))})
    return pb.ModelVersions(
        name=status.name,
        versions=[
            pb.ModelVersion(
                version=number,
                state=_state(number, serving=serving, loading=status.loading_version, refused=number in refused),
                reason=refused.get(number, ""),
                digest=status.served.card.digest if status.served and number == serving else "",
            )
            for number in numbers
        ],
        pinned_version=status.pinned_version,
    )


def is_local(peer: str) -> bool:
    """Return whether gRPC's name for a caller is an address of this machine's loopback, or a Unix socket.

    `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000` and `unix:...` are the forms that gRPC gives (its
    documentation on naming).
    """
    kind, _, rest = peer.partition(":")
    if kind == "unix":
        return True
    try:
        address = ipaddress.ip_address(unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # an IPv4 caller of an IPv6 socket
    return (mapped or address).is_loopback


def admit_operator(context: Context) -> None:
    """Let operators pass, for every service that changes what is served.

    Raises:
        AccessDenied: the caller is somebody else.
    """
    if not is_local(context.peer()):
        raise AccessDenied("only callers on the server's own machine may change what it serves")


def _admit(name: str, context: Context) -> str:
    """Return the name, of a caller who may ask."""
    admit_operator(context)
    if name and not is_model_name(name):
        raise InvalidArgument("name: expected letters, digits, dots, dashes and underscores, at most 64")
    return name


def _state(number: int, *, serving: int, loading: int, refused: bool) -> pb.VersionState.ValueType:
    if number == serving:
        return pb.VERSION_STATE_SERVING
    if number == loading:
        return pb.VERSION_STATE_LOADING
    return pb.VERSION_STATE_REFUSED if refused else pb.VERSION_STATE_AVAILABLE
