import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import structlog

from models.desired import DESIRED_FILE, DesiredState, change_desired
from models.errors import CheckpointDamaged, Fault
from server.catalog import Catalog
from server.engines import Engine
from server.errors import ModelNotFound, NotReady, StartError
from server.following import ModelState
from server.metrics import Metrics
from server.reconciliation import ModelControl
from server.served import BatchLimits
from tests.conftest import publish
from tests.fakes import FakeEngine, FakeEngines
from tests.polling import eventually

LIMITS = BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8)
PICTURE = bytes(3072)


async def ignore(model: str, ready: bool) -> None:  # noqa: FBT001
    """Take no notice."""


def make_catalog(
    repository: Path,
    *,
    default_model: str = "",
    engine: Callable[[Path], Engine] = lambda folder: FakeEngine(),  # noqa: ARG005
    control: ModelControl = ModelControl.NONE,
    metrics: Metrics | None = None,
    on_ready: Callable[[str, bool], Awaitable[None]] = ignore,
) -> Catalog:
    return Catalog(
        repository,
        default_model=default_model,
        make_engine=engine,
        limits=LIMITS,
        metrics=metrics or Metrics(),
        on_failure=pytest.fail,
        control=control,
        poll_interval_seconds=0.01,
        on_ready=on_ready,
    )


def following(repository: Path, engines: FakeEngines, control: ModelControl = ModelControl.POLL) -> Catalog:
    return make_catalog(repository, default_model="quick", engine=engines, control=control)


def serving(catalog: Catalog, name: str = "quick") -> int:
    served = catalog.status(name).served
    return served.card.version if served else 0


def names(catalog: Catalog) -> list[str]:
    return [status.name for status in catalog.statuses()]


def unmount(repository: Path, *, leave_empty: bool = False) -> None:
    repository.rename(repository.with_name("away"))
    if leave_empty:
        repository.mkdir()


def mount(repository: Path) -> None:
    if repository.exists():
        repository.rmdir()
    repository.with_name("away").rename(repository)


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines()


@pytest.fixture
def own(repository: Path, tmp_path: Path) -> Path:
    """A copy of the repository that the test may change."""
    return shutil.copytree(repository, tmp_path / "repository")


async def test_newest_version_is_served(repository: Path) -> None:
    """Of several versions the newest answers, also when it is asked for by number."""
    async with make_catalog(repository, default_model="quick") as catalog:
        assert catalog.get("quick").card.version == 2
        assert catalog.get("quick", 2).card.version == 2


async def test_other_versions_are_not_found(repository: Path) -> None:
    """A version that exists but is not served is not found, and the message says which is."""
    async with make_catalog(repository, default_model="quick") as catalog:
        with pytest.raises(ModelNotFound, match="expected 2, or 0"):
            catalog.get("quick", 1)


async def test_empty_name_means_the_default(repository: Path) -> None:
    """A request that names no model goes to the default."""
    async with make_catalog(repository, default_model="other") as catalog:
        assert catalog.get().card.model == "other"


def test_models_are_not_ready_before_they_are_loaded(repository: Path) -> None:
    """Until the catalog is entered its models are loading, and asking for one says so."""
    catalog = make_catalog(repository, default_model="quick")

    assert {status.state for status in catalog.statuses()} == {ModelState.LOADING}
    with pytest.raises(NotReady, match="'quick' is loading"):
        catalog.get("quick")


def test_only_model_is_the_default(tmp_path: Path) -> None:
    """A repository with one model needs no --default-model."""
    publish(tmp_path, "mine")

    assert [status.is_default for status in make_catalog(tmp_path).statuses()] == [True]


def test_shipped_default_is_chosen_among_several(tmp_path: Path) -> None:
    """With several models, one that has the shipped default's name answers."""
    publish(tmp_path, "mine")
    publish(tmp_path, "whitened")

    assert [status.name for status in make_catalog(tmp_path).statuses() if status.is_default] == ["whitened"]


def test_several_models_without_a_default_cannot_start(repository: Path) -> None:
    """Which of several models answers must be said."""
    with pytest.raises(StartError, match="name one of other, quick with --default-model"):
        make_catalog(repository)


def test_empty_repository_cannot_start(tmp_path: Path) -> None:
    """A repository without a model is said to be empty."""
    with pytest.raises(StartError, match="no model in it"):
        make_catalog(tmp_path)


async def test_default_that_cannot_be_loaded_cannot_start(repository: Path, engines: FakeEngines) -> None:
    """When no version of the default model can be served, the start ends with the reason of the newest."""
    engines.failures = {f"quick/{version}": CheckpointDamaged(f"{version} is damaged") for version in (1, 2)}

    with pytest.raises(StartError, match="model 'quick' cannot be served: 2 is damaged"):
        await following(repository, engines).__aenter__()
    assert engines.closed == ["other/1"]


async def test_engine_that_cannot_run_here_cannot_start(repository: Path, engines: FakeEngines) -> None:
    """What no version could help, such as a device that is absent, ends the start at once."""
    engines.failures = {"quick/2": StartError("no such device")}

    with pytest.raises(StartError, match="no such device"):
        await following(repository, engines).__aenter__()
    assert "quick/1" not in engines.made


async def test_damaged_newest_version_does_not_prevent_a_start(repository: Path, engines: FakeEngines) -> None:
    """A server that starts again after a bad publication serves the newest version that is sound."""
    engines.failures = {"quick/2": CheckpointDamaged("2 is damaged")}

    async with following(repository, engines) as catalog:
        status = catalog.status("quick")

    assert status.served is not None
    assert status.served.card.version == 1
    assert [(refused.version, refused.reason) for refused in status.refused] == [(2, "2 is damaged")]


async def test_other_models_start_without_the_damaged_one(repository: Path, engines: FakeEngines) -> None:
    """A model that cannot be loaded is unavailable, with its reason, and the default answers."""
    engines.failures = {"other/1": CheckpointDamaged("it is damaged")}

    async with following(repository, engines) as catalog:
        status = catalog.status("other")

        assert (status.state, status.reason) == (ModelState.UNAVAILABLE, "it is damaged")
        with pytest.raises(ModelNotFound, match="model 'other' is not served: it is damaged"):
            catalog.get("other")
        assert serving(catalog, "quick") == 2


async def test_new_version_takes_over(own: Path, engines: FakeEngines) -> None:
    """A version that is published is loaded beside the one that answers, and takes its place."""
    async with following(own, engines) as catalog:
        engines.loading.clear()
        publish(own, "quick")
        await eventually(lambda: catalog.status("quick").loading_version == 3)
        while_loading = catalog.status("quick")
        engines.loading.set()
        await eventually(lambda: "quick/2" in engines.closed)

        assert (while_loading.state, while_loading.served and while_loading.served.card.version) == ("ready", 2)
        assert serving(catalog) == 3


async def test_accepted_work_is_answered_by_the_version_that_accepted_it(own: Path, engines: FakeEngines) -> None:
    """A request that found a version is answered by it, whatever is swapped before its pictures are decoded."""
    async with following(own, engines) as catalog:
        with catalog.get("quick") as served:
            publish(own, "quick")
            await eventually(lambda: serving(catalog) == 3)
            answer = await served.batcher.submit([PICTURE])

            assert len(answer.results) == 1
            assert engines.engines["quick/2"].batches == [1]
            assert "quick/2" not in engines.closed
        await eventually(lambda: "quick/2" in engines.closed)
        assert engines.engines["quick/3"].batches == []


async def test_refused_version_leaves_the_old_one(own: Path, engines: FakeEngines) -> None:
    """A damaged version is refused once, is told with its reason, counted, and the old one goes on."""
    metrics = Metrics()
    engines.failures = {"quick/3": CheckpointDamaged(f"{own}/quick/3/model.pt: not finite", fault=Fault.NOT_FINITE)}
    async with make_catalog(
        own, default_model="quick", engine=engines, control=ModelControl.POLL, metrics=metrics
    ) as catalog:
        publish(own, "quick")
        await eventually(lambda: bool(catalog.status("quick").refused))
        publish(own, "other")
        await eventually(lambda: serving(catalog, "other") == 2)

        status = catalog.status("quick")
        assert (status.state, serving(catalog)) == (ModelState.READY, 2)
        assert [refused.reason for refused in status.refused] == ["quick/3/model.pt: not finite"]
        assert engines.made.count("quick/3") == 1
        with pytest.raises(ModelNotFound, match=r"version 3 .* not served \(it was refused: quick/3/model.pt: not"):
            catalog.get("quick", 3)
    count = metrics.registry.get_sample_value
    labels = {"model": "quick", "reason": "not_finite"}
    assert count("cifarserve_model_load_failures_total", labels) == 1
    assert count("cifarserve_model_loads_total", {"outcome": "failure"}) == 1


async def test_version_that_is_completed_later_is_served(own: Path, engines: FakeEngines) -> None:
    """A version that is copied file by file is refused while it is not whole, and served when it is."""
    whole = publish(own, "quick")
    card = (whole / "model.json").read_bytes()
    (whole / "model.json").unlink()
    async with following(own, engines) as catalog:
        assert serving(catalog) == 2
        assert "model.json: No such file" in catalog.status("quick").refused[0].reason
        (whole / "model.json").write_bytes(card)
        await eventually(lambda: serving(catalog) == 3)

        assert catalog.status("quick").refused == ()


async def test_deleted_version_is_rolled_back(own: Path, engines: FakeEngines) -> None:
    """When the version that answers is deleted, the newest that is left takes its place."""
    async with following(own, engines) as catalog:
        shutil.rmtree(own / "quick" / "2")
        await eventually(lambda: serving(catalog) == 1)


async def test_deleted_model_is_unloaded_and_a_new_one_served(own: Path, engines: FakeEngines) -> None:
    """Models come and go with their folders."""
    async with following(own, engines) as catalog:
        shutil.rmtree(own / "other")
        publish(own, "new")
        await eventually(lambda: names(catalog) == ["new", "quick"] and serving(catalog, "new") == 1)

        assert "other/1" in engines.closed
        with pytest.raises(ModelNotFound, match="unknown model 'other': expected one of new, quick"):
            catalog.get("other")


async def test_empty_repository_unloads_nothing(own: Path, engines: FakeEngines) -> None:
    """A repository that is suddenly empty is a volume that is not mounted: everything goes on."""
    async with following(own, engines) as catalog:
        unmount(own, leave_empty=True)
        await catalog.look()
        mount(own)
        await catalog.look()

        assert engines.closed == []
        assert serving(catalog) == 2


async def test_missing_repository_ends_no_polling(own: Path, engines: FakeEngines) -> None:
    """A repository that goes away and comes back is followed again."""
    async with following(own, engines) as catalog:
        with structlog.testing.capture_logs() as log:
            unmount(own)
            await eventually(lambda: any("cannot be read" in entry["event"] for entry in log))
        mount(own)
        publish(own, "quick")
        await eventually(lambda: serving(catalog) == 3)


async def test_health_tells_of_one_model_alone(own: Path, engines: FakeEngines) -> None:
    """A model is told to be ready when it answers, and loading another version or model changes nothing."""
    told: list[tuple[str, bool]] = []

    async def tell(model: str, ready: bool) -> None:  # noqa: FBT001
        told.append((model, ready))

    async with make_catalog(
        own, default_model="quick", engine=engines, control=ModelControl.POLL, on_ready=tell
    ) as catalog:
        publish(own, "quick")
        await eventually(lambda: serving(catalog) == 3)
        engines.failures = {"new/1": CheckpointDamaged("it is damaged")}
        publish(own, "new")
        await eventually(lambda: "new" in names(catalog) and bool(catalog.status("new").refused))
        shutil.rmtree(own / "other")
        await eventually(lambda: "other" not in names(catalog))

    assert sorted(told[:2]) == [("other", True), ("quick", True)]
    assert told[2:] == [("quick", True), ("other", False)]


async def test_pin_survives_a_restart(own: Path, engines: FakeEngines) -> None:
    """A server that starts serves the version that the model is pinned to."""
    change_desired(own / "quick", lambda desired: desired.pinned(1))

    async with following(own, engines) as catalog:
        assert (serving(catalog), catalog.status("quick").pinned_version) == (1, 1)


async def test_unreadable_wish_serves_what_was_served(own: Path, engines: FakeEngines) -> None:
    """What an operator wanted is not guessed: the model goes on as it is, and starts not at all."""
    async with following(own, engines) as catalog:
        (own / "quick" / DESIRED_FILE).write_text("?")
        publish(own, "quick")
        publish(own, "other")
        await eventually(lambda: serving(catalog, "other") == 2)
        assert serving(catalog) == 2

    with pytest.raises(StartError, match=f"quick/{DESIRED_FILE}: the file: Invalid JSON"):
        await following(own, engines).__aenter__()


async def test_explicit_serves_what_was_asked_for(own: Path, engines: FakeEngines) -> None:
    """Without a request nothing is served; what was asked for is, and a new version changes nothing."""
    change_desired(own / "quick", lambda desired: desired.loaded(2))

    async with following(own, engines, ModelControl.EXPLICIT) as catalog:
        publish(own, "quick")
        await catalog.look()

        assert serving(catalog) == 2
        assert catalog.status("other").reason == "not loaded: nobody asked for it"
        assert engines.made == ["quick/2"]


async def test_explicit_follows_what_another_process_was_asked(own: Path, engines: FakeEngines) -> None:
    """What is wanted lies on the disk: every server process of the repository follows it."""
    async with following(own, engines, ModelControl.EXPLICIT) as catalog:
        change_desired(own / "quick", lambda desired: desired.loaded(2))
        await eventually(lambda: serving(catalog) == 2)
        change_desired(own / "quick", DesiredState.without)
        await eventually(lambda: serving(catalog) == 0)

        assert catalog.status("quick").reason == "unloaded on request"


async def test_none_follows_nothing(own: Path, engines: FakeEngines) -> None:
    """What is served at the start is served until the end."""
    async with following(own, engines, ModelControl.NONE) as catalog:
        assert catalog._tasks == set()
        assert serving(catalog) == 2


async def test_leaving_while_a_version_loads(own: Path, engines: FakeEngines) -> None:
    """A server that stops waits for no version that is being loaded, and closes the one that answers."""
    async with following(own, engines) as catalog:
        engines.loading.clear()
        publish(own, "quick")
        await eventually(lambda: catalog.status("quick").loading_version == 3)

    assert sorted(engines.closed) == ["other/1", "quick/2"]


async def test_metrics_show_what_is_served(own: Path, engines: FakeEngines) -> None:
    """The version that answers, and how often one took the place of another, are on the metrics page."""
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    async with make_catalog(
        own, default_model="quick", engine=engines, control=ModelControl.POLL, metrics=metrics
    ) as catalog:
        publish(own, "quick")
        await eventually(lambda: serving(catalog) == 3)

        assert value("cifarserve_model_version", {"model": "quick"}) == 3
        assert value("cifarserve_model_swaps_total", {"model": "quick"}) == 1
        assert value("cifarserve_model_load_seconds_count", {"model": "quick"}) == 2
        assert value("cifarserve_pass_seconds", {"model": "quick", "batch_size": "1"}) == pytest.approx(0.001)
        shown = [sample.labels for family in metrics.model_info.collect() for sample in family.samples]
        assert sorted((labels["model"], labels["version"]) for labels in shown) == [("other", "1"), ("quick", "3")]
