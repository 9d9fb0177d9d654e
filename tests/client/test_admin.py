from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from cifarserve.v1 import admin_pb2 as pb
from client import AccessDenied, ModelAdminClient, ModelVersions, NotFound, NotPossible, VersionState
from client.admin import _STATES
from tests.client.fake_server import Failure, FakeServer


@pytest.fixture
async def admin(server: FakeServer) -> AsyncIterator[ModelAdminClient]:
    async with ModelAdminClient(server.target, timeout_seconds=10) as connected:
        yield connected


async def test_versions_with_their_states(admin: ModelAdminClient) -> None:
    """Every version arrives with its state, the digest of the one that answers, and why another was refused."""
    model = await admin.versions()

    assert [(version.version, version.state) for version in model.versions] == [
        (1, VersionState.AVAILABLE),
        (2, VersionState.SERVING),
        (3, VersionState.REFUSED),
    ]
    assert model.serving is not None
    assert (model.name, model.serving.version, model.serving.digest) == ("whitened", 2, "ab12cd34" * 8)
    assert model.versions[2].reason == "model.pt is cut off"


async def test_pin_and_unpin(admin: ModelAdminClient, server: FakeServer) -> None:
    """A pin is set and ended, and the answer says what answers then."""
    pinned = await admin.pin("whitened", 1)
    unpinned = await admin.unpin("whitened")

    assert [(model.serving and model.serving.version, model.pinned_version) for model in (pinned, unpinned)] == [
        (1, 1),
        (2, 0),
    ]
    assert server.admin.pinned == 0


async def test_unload_load_and_reload(admin: ModelAdminClient, server: FakeServer) -> None:
    """A model goes, comes back, and is loaded afresh."""
    unloaded = await admin.unload("whitened")
    loaded = await admin.load("whitened")
    await admin.reload("whitened")

    assert unloaded.serving is None
    assert loaded.serving is not None
    assert server.admin.reloads == 1


async def test_rollback_goes_one_version_back(admin: ModelAdminClient, server: FakeServer) -> None:
    """Rollback pins the version before the one that answers; before the first there is none."""
    model = await admin.rollback()

    assert (server.admin.pinned, model.pinned_version) == (1, 1)
    with pytest.raises(NotFound, match="model 'whitened': version 1 answers; expected an older one"):
        await admin.rollback()


async def test_rollback_of_what_does_not_answer(admin: ModelAdminClient, server: FakeServer) -> None:
    """Where no version answers there is nothing to go back from."""
    server.admin.serving = 0

    with pytest.raises(NotFound, match="no version answers"):
        await admin.rollback("whitened")


CALLS: list[Callable[[ModelAdminClient], Awaitable[ModelVersions]]] = [
    lambda admin: admin.versions("nobody"),
    lambda admin: admin.load("nobody"),
    lambda admin: admin.unload("nobody"),
    lambda admin: admin.pin("nobody", 1),
    lambda admin: admin.rollback("nobody"),
    lambda admin: admin.unpin("nobody"),
    lambda admin: admin.reload("nobody"),
]


@pytest.mark.parametrize("call", CALLS)
async def test_failures_are_client_errors(
    admin: ModelAdminClient, server: FakeServer, call: Callable[[ModelAdminClient], Awaitable[ModelVersions]]
) -> None:
    """An unknown model, and a caller from another machine, are errors of the client's tree."""
    with pytest.raises(NotFound, match="unknown model 'nobody'"):
        await call(admin)
    server.admin.failures.append(Failure(grpc.StatusCode.PERMISSION_DENIED, "only callers on the server's own machine"))
    with pytest.raises(AccessDenied, match="refused access: only callers"):
        await call(admin)


async def test_refused_version(admin: ModelAdminClient) -> None:
    """A damaged version is not possible, with the server's reason."""
    with pytest.raises(NotPossible, match=r"^refused, version 2 goes on: model\.pt is cut off$"):
        await admin.pin("whitened", 3)


def test_every_state_has_its_word() -> None:
    """A state that is added to the contract cannot be forgotten here."""
    assert set(_STATES) == set(pb.VersionState.values()) - {pb.VERSION_STATE_UNSPECIFIED}
