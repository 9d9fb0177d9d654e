import asyncio
from pathlib import Path

import pytest

from models.repository import Repository
from server import loading
from server.loading import Loader, Refused
from server.metrics import Metrics
from server.served import BatchLimits
from tests.fakes import FakeEngines
from tests.polling import eventually


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines()


@pytest.fixture
def quiet_engines() -> FakeEngines:
    return FakeEngines()


@pytest.fixture
def quiet() -> list[bool]:
    """Not empty when there is somebody to disturb."""
    return []


@pytest.fixture
def loader(repository: Path, engines: FakeEngines, quiet_engines: FakeEngines, quiet: list[bool]) -> Loader:
    return Loader(
        Repository(repository),
        make_engine=engines,
        make_quiet_engine=quiet_engines,
        is_quiet=lambda: bool(quiet),
        limits=BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8),
        metrics=Metrics(),
        on_failure=lambda reason: None,  # noqa: ARG005
    )


async def test_engines_are_quiet_beside_others(
    loader: Loader, engines: FakeEngines, quiet_engines: FakeEngines, quiet: list[bool]
) -> None:
    """An engine yields the processor while it loads when there is somebody to disturb."""
    first = await loader.load("quick", 1)
    quiet.append(True)
    second = await loader.load("quick", 2)
    await asyncio.gather(first.close(), second.close())

    assert (engines.made, quiet_engines.made) == (["quick/1"], ["quick/2"])


async def test_quiet_loading_does_not_take_for_ever(
    loader: Loader,
    engines: FakeEngines,
    quiet_engines: FakeEngines,
    quiet: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside engines that leave no time at all, a version is loaded as one of many after a while."""
    monkeypatch.setattr(loading, "_PATIENCE_SECONDS", 0.01)
    quiet.append(True)
    quiet_engines.loading.clear()
    served = await loader.load("quick", 2)
    await served.close()

    assert (quiet_engines.made, engines.made) == (["quick/2"], ["quick/2"])
    assert engines.closed == ["quick/2"]


async def test_one_version_at_a_time_is_loaded_after_the_start(loader: Loader, engines: FakeEngines) -> None:
    """After the start, versions wait for each other: one load is disturbance enough."""
    loader.starting = False
    engines.loading.clear()
    loads = [asyncio.create_task(loader.load("quick", version)) for version in (1, 2)]
    await eventually(lambda: bool(engines.made))
    await asyncio.sleep(0)
    made_at_first = len(engines.made)
    engines.loading.set()
    for load in loads:
        await (await load).close()

    assert (made_at_first, len(engines.made)) == (1, 2)


async def test_wrong_digest_costs_no_engine(loader: Loader, engines: FakeEngines, tmp_path: Path) -> None:
    """A version whose card cannot be read is refused before an engine is started, without the repository's path."""
    (tmp_path / "quick" / "1").mkdir(parents=True)
    loader._repository = Repository(tmp_path)

    with pytest.raises(Refused, match=r"^quick/1/model\.json: No such file or directory$"):
        await loader.load("quick", 1)
    assert engines.made == []
