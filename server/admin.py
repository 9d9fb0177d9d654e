"""The operators' door: `cifarserve.v1.ModelAdminService`. Translation only; `server.security` looks who asks."""

from __future__ import annotations

from cifarserve.v1 import admin_pb2 as pb
from cifarserve.v1 import admin_pb2_grpc
from models.repository import is_model_name
from server.errors import InvalidArgument
from server.following import ModelStatus
from server.operations import Operations


class ModelAdminServicer(admin_pb2_grpc.ModelAdminServiceServicer):
    """Answers operators. Raises `ServingError`; the interceptor makes statuses of it."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def ListVersions(self, request: pb.ListVersionsRequest, context: object) -> pb.ListVersionsResponse:
        """Tell of every version of a model."""
        status = await self._operations.versions(_checked(request.name))
        return pb.ListVersionsResponse(model=to_model_versions(status))

    async def Load(self, request: pb.LoadRequest, context: object) -> pb.LoadResponse:
        """Serve a model."""
        status = await self._operations.load(_checked(request.name))
        return pb.LoadResponse(model=to_model_versions(status))

    async def Unload(self, request: pb.UnloadRequest, context: object) -> pb.UnloadResponse:
        """Serve a model no more."""
        name = _checked(request.name)
        if not name:
            raise InvalidArgument("name: expected the name of the model to unload, got none")
        return pb.UnloadResponse(model=to_model_versions(await self._operations.unload(name)))

    async def Rollback(self, request: pb.RollbackRequest, context: object) -> pb.RollbackResponse:
        """Pin a model to a version."""
        name = _checked(request.name)
        if request.version < 1:
            raise InvalidArgument(f"version: expected a number from 1, got {request.version}")
        return pb.RollbackResponse(model=to_model_versions(await self._operations.pin(name, request.version)))

    async def Unpin(self, request: pb.UnpinRequest, context: object) -> pb.UnpinResponse:
        """End a pin."""
        status = await self._operations.unpin(_checked(request.name))
        return pb.UnpinResponse(model=to_model_versions(status))

    async def Reload(self, request: pb.ReloadRequest, context: object) -> pb.ReloadResponse:
        """Load a model afresh."""
        status = await self._operations.reload(_checked(request.name))
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


def _checked(name: str) -> str:
    """Return the name of a model when it can be one; empty stands for the default."""
    if name and not is_model_name(name):
        raise InvalidArgument("name: expected letters, digits, dots, dashes and underscores, at most 64")
    return name


def _state(number: int, *, serving: int, loading: int, refused: bool) -> pb.VersionState.ValueType:
    if number == serving:
        return pb.VERSION_STATE_SERVING
    if number == loading:
        return pb.VERSION_STATE_LOADING
    return pb.VERSION_STATE_REFUSED if refused else pb.VERSION_STATE_AVAILABLE
