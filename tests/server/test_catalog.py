from pathlib import Path

import pytest

from models.errors import CheckpointDamaged
from server.catalog import Catalog
from server.engines import Engine
from server.errors import ModelNotFound, NotReady, StartError
from server.following import ModelState
from server.metrics import Metrics
from server.served import BatchLimits
from tests.conftest import publish
from tests.fakes import FakeEngine

LIMITS = BatchLimits(max_batch_size=4, max_queue_delay_seconds=0.0, max_queue_items=8)


class BrokenEngine(FakeEngine):
    """Cannot be entered: its weights are damaged."""

    async def __aenter__(self) -> "BrokenEngine":
        raise CheckpointDamaged("weights are damaged")


def make_catalog(repository: Path, *, default_model: str = "", engine: type[Engine] = FakeEngine) -> Catalog:
    return Catalog(
        repository,
        default_model=default_model,
        make_engine=lambda folder: engine(),  # noqa: ARG005
        limits=LIMITS,
        metrics=Metrics(),
    )


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


async def test_model_that_cannot_be_loaded_cannot_start(repository: Path) -> None:
    """A failing engine ends the start with its reason."""
    with pytest.raises(StartError, match="weights are damaged"):
        await make_catalog(repository, default_model="quick", engine=BrokenEngine).__aenter__()
