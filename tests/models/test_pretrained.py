"""The checkpoints in `models/pretrained`, which are shipped: what their cards say is true."""

from pathlib import Path

import pytest
import torch

import models
from models import DEFAULT_MODEL, checkpoint
from models.checkpoint import Checkpoint
from models.repository import Repository
from tests.training.published_cifar10 import published_cifar10
from training.data import Split
from training.evaluation import accuracy, evaluate

PRETRAINED = Path(models.__file__).parent / "pretrained"
IMAGES = 1000
MAX_BYTES = 20_000_000


@pytest.fixture(params=[DEFAULT_MODEL, "quick"])
def shipped(request: pytest.FixtureRequest) -> Checkpoint:
    """The newest shipped version of a model."""
    model: str = request.param
    if not PRETRAINED.is_dir() or model not in Repository(PRETRAINED).models():
        pytest.skip(f"{model} is not in {PRETRAINED} yet")
    return checkpoint.load(Repository(PRETRAINED).folder(model), device=torch.device("cpu"))


def test_accuracy_is_reproduced(shipped: Checkpoint) -> None:
    """On the first 1,000 test pictures the network is as good as its card says, give or take what 1,000 allow."""
    test = published_cifar10().test
    first = Split(test.images[:IMAGES], test.labels[:IMAGES])

    found = accuracy(evaluate(shipped.network, first, dtype=torch.float32), first.labels)

    assert found == pytest.approx(shipped.card.test.accuracy, abs=0.025)


def test_parameters_are_counted(shipped: Checkpoint) -> None:
    """The card counts the parameters that the network has."""
    assert shipped.card.parameters == sum(parameter.numel() for parameter in shipped.network.parameters())


def test_card_tells_how_to_do_it_again(shipped: Checkpoint) -> None:
    """The card names the command, the whole test split, and a revision of this code."""
    assert shipped.card.training.command.split()[0] == "cifarserve-train"
    assert shipped.card.test.images == 10_000
    assert shipped.card.training.code_revision != "unknown"


def test_card_names_the_published_data(shipped: Checkpoint) -> None:
    """The network was trained on the pictures that everybody can fetch."""
    assert shipped.card.training.data_digest == published_cifar10().digest


def test_shipped_models_are_small() -> None:
    """All that is shipped fits a repository: 20 MB at most."""
    total = sum(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file())

    assert total <= MAX_BYTES
