import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from models.desired import DesiredState, read_desired
from models.errors import CheckpointDamaged
from models.repository import Repository
from server.catalog import Catalog
from server.errors import ModelNotFound, NotPossible
from server.following import ModelState, ModelStatus
from server.metrics import Metrics
from server.operations import Operations
from server.reconciliation import ModelControl
from server.served import BatchLimits
from tests.conftest import publish
from tests.fakes import FakeEngines

POLL, EXPLICIT = ModelControl.POLL, ModelControl.EXPLICIT


@pytest.fixture
def own(repository: Path, tmp_path: Path) -> Path:
    """A copy of the repository that the test may change."""
    return shutil.copytree(repository, tmp_path / "repository")


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines()


def make_catalog(own: Path, engines: FakeEngines, control: ModelControl) -> Catalog:
    """Return a catalog that looks at the repository when it is asked to, and not by itself within a test."""
    return Catalog(
        own,
        default_model="quick",
        make_engine=engines,
        limits=BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8),
        metrics=Metrics(),
        on_failure=pytest.fail,
        control=control,
        poll_interval_seconds=3600,
    )


def version_of(status: ModelStatus) -> int:
    return status.served.card.version if status.served else 0


async def test_pin_is_served_and_kept(own: Path, engines: FakeEngines) -> None:
    """A pinned version answers, whatever is published, also after a restart, until it is unpinned."""
    async with make_catalog(own, engines, POLL) as catalog:
        pinned = await Operations(catalog, Repository(own)).pin("quick", 1)
    publish(own, "quick")
    async with make_catalog(own, engines, POLL) as catalog:
        restarted = catalog.status("quick")
        unpinned = await Operations(catalog, Repository(own)).unpin("quick")

    assert (version_of(pinned), pinned.pinned_version) == (1, 1)
    assert (version_of(restarted), restarted.pinned_version) == (1, 1)
    assert (version_of(unpinned), unpinned.pinned_version) == (3, 0)


async def test_unloaded_stays_away_until_it_is_loaded(own: Path, engines: FakeEngines) -> None:
    """An unloaded model answers no more, also after a restart; loading it brings back the newest version."""
    async with make_catalog(own, engines, POLL) as catalog:
        unloaded = await Operations(catalog, Repository(own)).unload("quick")
        assert "quick/2" in engines.closed
    async with make_catalog(own, engines, POLL) as catalog:
        restarted = catalog.status("quick")
        publish(own, "quick")
        loaded = await Operations(catalog, Repository(own)).load("quick")

    assert (unloaded.state, unloaded.reason) == (ModelState.UNAVAILABLE, "unloaded on request")
    assert restarted.served is None
    assert version_of(loaded) == 3


async def test_explicit_load_takes_the_newest(own: Path, engines: FakeEngines) -> None:
    """Where nothing is followed but requests, each Load takes what is newest then, and a restart keeps it."""
    async with make_catalog(own, engines, EXPLICIT) as catalog:
        operations = Operations(catalog, Repository(own))
        first = await operations.load("quick")
        publish(own, "quick")
        between = await operations.versions("quick")
        second = await operations.load("quick")
    publish(own, "quick")
    async with make_catalog(own, engines, EXPLICIT) as catalog:
        restarted = catalog.status("quick")

    assert [version_of(status) for status in (first, between, second, restarted)] == [2, 2, 3, 3]
    assert between.versions == (1, 2, 3)


async def test_load_of_what_answers_changes_nothing(own: Path, engines: FakeEngines) -> None:
    """Loading a model that answers in its newest version loads nothing again; Reload does."""
    async with make_catalog(own, engines, POLL) as catalog:
        operations = Operations(catalog, Repository(own))
        await operations.load("quick")
        after_load = engines.made.count("quick/2")
        await operations.reload("quick")
        after_reload = engines.made.count("quick/2")

        assert (after_load, after_reload) == (1, 2)
        assert engines.closed == ["quick/2"]


@pytest.mark.parametrize("control", [POLL, EXPLICIT])
async def test_refused_pin_leaves_everything_as_it_was(own: Path, engines: FakeEngines, control: ModelControl) -> None:
    """A pin to a damaged version fails with the reason, the old version goes on, and a restart finds no pin."""
    engines.failures = {"quick/1": CheckpointDamaged("it is damaged")}
    async with make_catalog(own, engines, control) as catalog:
        operations = Operations(catalog, Repository(own))
        await operations.load("quick")
        with pytest.raises(NotPossible, match="refused, version 2 goes on: it is damaged"):
            await operations.pin("quick", 1)

        assert version_of(catalog.status("quick")) == 2
        assert engines.made.count("quick/1") == 1
    assert read_desired(own / "quick").pinned_version == 0


async def test_refused_load_leaves_everything_as_it_was(own: Path, engines: FakeEngines) -> None:
    """A damaged newest version is not recorded as what to serve: a restart serves the old one."""
    async with make_catalog(own, engines, EXPLICIT) as catalog:
        operations = Operations(catalog, Repository(own))
        await operations.load("quick")
        publish(own, "quick")
        engines.failures = {"quick/3": CheckpointDamaged("it is damaged")}
        with pytest.raises(NotPossible, match="refused, version 2 goes on: it is damaged"):
            await operations.load("quick")

        assert version_of(catalog.status("quick")) == 2
    assert read_desired(own / "quick").loaded_version == 2


async def test_refused_version_is_tried_again_on_request(own: Path, engines: FakeEngines) -> None:
    """Reload tries a refused version again: what was wrong, such as too little memory, may have passed."""
    async with make_catalog(own, engines, POLL) as catalog:
        operations = Operations(catalog, Repository(own))
        publish(own, "quick")
        engines.failures = {"quick/3": OSError("too many open files")}
        with pytest.raises(NotPossible, match="refused, version 2 goes on: its engine did not start"):
            await operations.reload("quick")
        engines.failures = {}
        status = await operations.reload("quick")

        assert (version_of(status), status.refused) == (3, ())


async def test_load_serves_an_older_version_when_the_newest_is_damaged(own: Path, engines: FakeEngines) -> None:
    """Where the repository is followed, the newest sound version answers, and the damaged one is told of."""
    async with make_catalog(own, engines, POLL) as catalog:
        operations = Operations(catalog, Repository(own))
        await operations.unload("quick")
        engines.failures = {"quick/2": CheckpointDamaged("it is damaged")}
        status = await operations.load("quick")

        assert version_of(status) == 1
        assert [refused.version for refused in status.refused] == [2]


OPERATIONS: list[Callable[[Operations, str], Awaitable[ModelStatus]]] = [
    Operations.load,
    Operations.unload,
    Operations.unpin,
    Operations.reload,
    lambda operations, name: operations.pin(name, 1),
]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_unknown_model(
    own: Path, engines: FakeEngines, operation: Callable[[Operations, str], Awaitable[ModelStatus]]
) -> None:
    """A model that the repository does not have is not found, whatever is asked."""
    async with make_catalog(own, engines, POLL) as catalog:
        with pytest.raises(ModelNotFound, match="unknown model 'nobody': expected one of other, quick"):
            await operation(Operations(catalog, Repository(own)), "nobody")


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_nothing_can_be_changed_where_nothing_is_followed(
    own: Path, engines: FakeEngines, operation: Callable[[Operations, str], Awaitable[ModelStatus]]
) -> None:
    """With --model-control none every change is refused, and nothing is written."""
    async with make_catalog(own, engines, ModelControl.NONE) as catalog:
        with pytest.raises(NotPossible, match="started with --model-control none: expected poll or explicit"):
            await operation(Operations(catalog, Repository(own)), "quick")

        assert version_of(await Operations(catalog, Repository(own)).versions("quick")) == 2
    assert read_desired(own / "quick") == DesiredState()


async def test_unknown_version_cannot_be_pinned(own: Path, engines: FakeEngines) -> None:
    """A version that the repository does not have is not found, and those that it has are named."""
    async with make_catalog(own, engines, POLL) as catalog:
        with pytest.raises(ModelNotFound, match="unknown version 7: expected one of 1, 2"):
            await Operations(catalog, Repository(own)).pin("quick", 7)


async def test_repository_that_cannot_be_written(
    own: Path, engines: FakeEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that is mounted read-only is said to be so, and what was served still is."""

    def read_only(path: Path, content: bytes) -> None:
        raise OSError(30, "Read-only file system", str(path), len(content))

    monkeypatch.setattr("models.desired.replace_durably", read_only)
    async with make_catalog(own, engines, POLL) as catalog:
        with pytest.raises(NotPossible, match="model 'quick': its folder cannot be written: Read-only file system"):
            await Operations(catalog, Repository(own)).pin("", 1)

        assert version_of(catalog.status("quick")) == 2
