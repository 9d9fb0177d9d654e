"""Decide which versions a cifarserve server serves, from asyncio.

The server obeys who shows a token of scope `admin`, or, when it has no tokens, callers on its own machine.
"""

import enum
from dataclasses import dataclass
from typing import Self

from cifarserve.v1 import admin_pb2 as pb
from cifarserve.v1 import admin_pb2_grpc
from client.connection import Connection
from client.errors import NotFound


class VersionState(enum.StrEnum):
    """Whether a version answers."""

    UNKNOWN = "unknown"
    AVAILABLE = "available"
    LOADING = "loading"
    SERVING = "serving"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model.

    Attributes:
        version: its number.
        state: whether it answers.
        reason: why it was refused, in one line; empty when it was not.
        digest: SHA-256 of its weights file, hexadecimal; empty unless it answers.
    """

    version: int
    state: VersionState
    reason: str
    digest: str


@dataclass(frozen=True, slots=True)
class ModelVersions:
    """One model, version by version.

    Attributes:
        name: the model.
        versions: ascending; those in the repository, and the one that answers.
        pinned_version: the version that the model is pinned to; 0: none.
    """

    name: str
    versions: tuple[ModelVersion, ...]
    pinned_version: int

    @property
    def serving(self) -> ModelVersion | None:
        """The version that answers; None while none does."""
        return next((version for version in self.versions if version.state is VersionState.SERVING), None)


# A state that a newer server invents is UNKNOWN here.
_STATES = {
    pb.VERSION_STATE_AVAILABLE: VersionState.AVAILABLE,
    pb.VERSION_STATE_LOADING: VersionState.LOADING,
    pb.VERSION_STATE_SERVING: VersionState.SERVING,
    pb.VERSION_STATE_REFUSED: VersionState.REFUSED,
}


class ModelAdminClient(Connection):
    """A connection to the operators' door of a cifarserve server.

        async with ModelAdminClient("127.0.0.1:50051", timeout_seconds=120) as admin:
            await admin.pin("whitened", 3)

    Each call but `versions` is answered when the server has done what was asked; when `timeout_seconds`
    pass earlier, the server goes on. All but `versions` raise `NotPossible` when the version is refused or
    the repository cannot be written: what was served still is. Every call raises `NotFound` for an unknown
    model, `AccessDenied` without the right, and other `ClientError`s.
    """

    async def __aenter__(self) -> Self:
        """Open the connection."""
        await super().__aenter__()
        self._admin = admin_pb2_grpc.ModelAdminServiceStub(self._channel)
        return self

    async def versions(self, name: str = "") -> ModelVersions:
        """Return every version of a model, served or not; empty name: the server's default."""
        return _to_versions((await self._call(self._admin.ListVersions, pb.ListVersionsRequest(name=name))).model)

    async def load(self, name: str = "") -> ModelVersions:
        """Serve a model: its newest version, or the one that it is pinned to."""
        return _to_versions((await self._call(self._admin.Load, pb.LoadRequest(name=name))).model)

    async def unload(self, name: str) -> ModelVersions:
        """Serve a model no more, also after a restart, until it is loaded."""
        return _to_versions((await self._call(self._admin.Unload, pb.UnloadRequest(name=name))).model)

    async def pin(self, name: str, version: int) -> ModelVersions:
        """Serve exactly this version, whatever is published, until the model is unpinned."""
        request = pb.RollbackRequest(name=name, version=version)
        return _to_versions((await self._call(self._admin.Rollback, request)).model)

    async def rollback(self, name: str = "") -> ModelVersions:
        """Pin a model to the version before the one that answers.

        Raises:
            NotFound: no older version is in the repository, or none answers.
        """
        before = await self.versions(name)
        serving = before.serving
        older = [version.version for version in before.versions if serving and version.version < serving.version]
        if not older:
            answers = f"version {serving.version} answers" if serving else "no version answers"
            raise NotFound(f"model {before.name!r}: {answers}; expected an older one in the repository to go back to")
        return await self.pin(before.name, older[-1])

    async def unpin(self, name: str = "") -> ModelVersions:
        """Serve again what would be served had the model not been pinned."""
        return _to_versions((await self._call(self._admin.Unpin, pb.UnpinRequest(name=name))).model)

    async def reload(self, name: str = "") -> ModelVersions:
        """Load what is served afresh from its files, and try again what was refused."""
        return _to_versions((await self._call(self._admin.Reload, pb.ReloadRequest(name=name))).model)


def _to_versions(model: pb.ModelVersions) -> ModelVersions:
    versions = (
        ModelVersion(each.version, _STATES.get(each.state, VersionState.UNKNOWN), each.reason, each.digest)
        for each in model.versions
    )
    return ModelVersions(model.name, tuple(versions), model.pinned_version)
