"""Fixtures that several packages' tests share: a small repository of untrained models, and the data set."""

import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from models import checkpoint, registry
from models.card import Card, Metrics, Training
from models.labels import LABELS

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Undo what a shell's background job inherits, ignoring Ctrl-C: the commands under test inherit it too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def make_card(model: str, architecture: str, version: int, digest: str) -> Card:
    """Return a valid card for weights that nobody trained."""
    metrics = Metrics(
        images=10, accuracy=0.1, accuracy_per_label=dict.fromkeys(LABELS, 0.1), ece=0.0, ece_uncalibrated=0.0
    )
    return Card(
        model=model,
        version=version,
        architecture=architecture,
        parameters=sum(parameter.numel() for parameter in registry.build(architecture).parameters()),
        digest=digest,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        validation=metrics,
        test=metrics,
        training=Training(
            command="none", config={}, seconds=0, hardware="none", data_digest="", code_revision="", libraries={}
        ),
    )


def publish(repository: Path, model: str, *, architecture: str = "quick", seed: int = 0) -> Path:
    """Publish an untrained network as the next version of `model`."""
    torch.manual_seed(seed)
    network = registry.build(architecture)
    return checkpoint.save(
        repository,
        model=model,
        network=network,
        make_card=lambda version, digest: make_card(model, architecture, version, digest),
    )


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `quick` 1 and 2 and `other` 1; the tests must not change it."""
    path = tmp_path_factory.mktemp("repository")
    for model, seed in (("quick", 1), ("quick", 2), ("other", 3)):
        publish(path, model, seed=seed)
    return path


@pytest.fixture(scope="session")
def cifar10_root() -> Path:
    """The folder that holds the real data set; skips where it is not at hand."""
    candidates: Sequence[str] = (os.environ.get("CIFAR10_DATA", ""), str(ROOT / "../shared/data"), str(ROOT / "data"))
    for candidate in filter(None, candidates):
        if (Path(candidate) / "cifar-10-batches-py").is_dir():
            return Path(candidate)
    pytest.skip("the CIFAR-10 data set is not at hand: set CIFAR10_DATA")
