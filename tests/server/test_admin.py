from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from cifarserve.v1 import admin_pb2 as pb
from cifarserve.v1 import admin_pb2_grpc
from models.errors import CheckpointDamaged
from models.repository import Repository
from server.admin import ModelAdminServicer
from server.admission import Admission
from server.catalog import Catalog
from server.interceptor import StatusInterceptor
from server.metrics import Metrics
from server.operations import Operations
from server.reconciliation import ModelControl
from server.served import BatchLimits
from tests.fakes import FakeEngines

if TYPE_CHECKING:
    from cifarserve.v1.admin_pb2_grpc import ModelAdminServiceAsyncStub

Request = pb.LoadRequest | pb.UnloadRequest | pb.RollbackRequest | pb.UnpinRequest | pb.ReloadRequest


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines()


@pytest.fixture
async def catalog(repository: Path, tmp_path: Path, engines: FakeEngines) -> AsyncIterator[Catalog]:
    own = shutil.copytree(repository, tmp_path / "repository")
    made = Catalog(
        own,
        default_model="quick",
        make_engine=engines,
        limits=BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8),
        metrics=Metrics(),
        on_failure=pytest.fail,
        control=ModelControl.POLL,
        poll_interval_seconds=3600,
    )
    async with made:
        yield made


@pytest.fixture
async def stub(catalog: Catalog, tmp_path: Path) -> AsyncIterator[ModelAdminServiceAsyncStub]:
    """The real service on a real socket, in front of fake engines."""
    server = grpc.aio.server(interceptors=[StatusInterceptor(Metrics(), Admission(), packages=["cifarserve.v1"])])
    servicer = ModelAdminServicer(Operations(catalog, Repository(tmp_path / "repository")))
    admin_pb2_grpc.add_ModelAdminServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield admin_pb2_grpc.ModelAdminServiceStub(channel)
        await server.stop(None)


def states(model: pb.ModelVersions) -> dict[int, str]:
    return {
        version.version: pb.VersionState.Name(version.state).removeprefix("VERSION_STATE_").lower()
        for version in model.versions
    }


async def failure_of(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value.code(), failure.value.details() or ""


async def test_versions_are_listed_with_their_states(stub: ModelAdminServiceAsyncStub, catalog: Catalog) -> None:
    """Every version is told of; the one that answers has its digest. An empty name is the default model."""
    model = (await stub.ListVersions(pb.ListVersionsRequest())).model

    assert (model.name, states(model)) == ("quick", {1: "available", 2: "serving"})
    assert [version.digest for version in model.versions] == ["", catalog.get("quick").card.digest]


async def test_rollback_and_unpin(stub: ModelAdminServiceAsyncStub) -> None:
    """The answer comes when the version that was asked for answers."""
    back = (await stub.Rollback(pb.RollbackRequest(name="quick", version=1))).model
    forth = (await stub.Unpin(pb.UnpinRequest(name="quick"))).model

    assert (states(back), back.pinned_version) == ({1: "serving", 2: "available"}, 1)
    assert (states(forth), forth.pinned_version) == ({1: "available", 2: "serving"}, 0)


async def test_unload_load_and_reload(stub: ModelAdminServiceAsyncStub, engines: FakeEngines) -> None:
    """A model goes, comes back, and is loaded afresh."""
    unloaded = (await stub.Unload(pb.UnloadRequest(name="quick"))).model
    loaded = (await stub.Load(pb.LoadRequest(name="quick"))).model
    reloaded = (await stub.Reload(pb.ReloadRequest(name="quick"))).model

    assert [states(model)[2] for model in (unloaded, loaded, reloaded)] == ["available", "serving", "serving"]
    assert engines.made.count("quick/2") == 3


async def test_refused_version_has_its_reason(stub: ModelAdminServiceAsyncStub, engines: FakeEngines) -> None:
    """A damaged version is a failed precondition with the reason, which the list keeps."""
    engines.failures = {"quick/1": CheckpointDamaged("it is damaged")}

    refused = await failure_of(stub.Rollback(pb.RollbackRequest(name="quick", version=1)))
    model = (await stub.ListVersions(pb.ListVersionsRequest(name="quick"))).model

    assert refused == (grpc.StatusCode.FAILED_PRECONDITION, "refused, version 2 goes on: it is damaged")
    assert states(model) == {1: "refused", 2: "serving"}
    assert model.versions[0].reason == "it is damaged"


@pytest.mark.parametrize(
    "name", ["../quick", "/etc", "quick/1", "..", ".hidden", "a b", "a" * 65, "file://quick", "x\n"]
)
async def test_names_that_lead_elsewhere_are_refused(stub: ModelAdminServiceAsyncStub, name: str) -> None:
    """A name that could be a path or an address is not even looked for."""
    calls = (
        stub.ListVersions(pb.ListVersionsRequest(name=name)),
        stub.Load(pb.LoadRequest(name=name)),
        stub.Unload(pb.UnloadRequest(name=name)),
        stub.Rollback(pb.RollbackRequest(name=name, version=1)),
        stub.Unpin(pb.UnpinRequest(name=name)),
        stub.Reload(pb.ReloadRequest(name=name)),
    )

    assert {(await failure_of(call))[0] for call in calls} == {grpc.StatusCode.INVALID_ARGUMENT}


async def test_what_is_missing_is_named(stub: ModelAdminServiceAsyncStub) -> None:
    """A version must be positive, and unloading the default model must be meant."""
    no_version = await failure_of(stub.Rollback(pb.RollbackRequest(name="quick")))
    no_name = await failure_of(stub.Unload(pb.UnloadRequest()))

    assert no_version == (grpc.StatusCode.INVALID_ARGUMENT, "version: expected a number from 1, got 0")
    assert no_name == (grpc.StatusCode.INVALID_ARGUMENT, "name: expected the name of the model to unload, got none")
