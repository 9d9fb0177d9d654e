from pathlib import Path

import pytest
import torch
from torch import nn

from models import checkpoint, registry
from models.checkpoint import update_card
from models.variants import prepare
from models.verification import read_card
from tests.training.runs import published_by, small_run
from training.assessment import assess, reassess
from training.calibration import fit_temperature
from training.config import EvaluationConfig
from training.data import Cifar10, load_cifar10
from training.errors import DataMissing, Diverged
from training.evaluation import accuracy, evaluate, measure
from training.publication import Published


@pytest.fixture
def data(tiny_cifar10: Path) -> Cifar10:
    return load_cifar10(tiny_cifar10, validation_images=50, seed=0, download=False)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return registry.build("whitened")


@pytest.fixture
def published(tiny_cifar10: Path, tmp_path: Path) -> Published:
    """A version whose card has lost its temperature since it was published."""
    run = published_by(small_run(tiny_cifar10, tmp_path, seed=4, epochs=1))
    checkpoint.update_card(run.folder, run.card.model_copy(update={"temperature": 1.0}))
    return run


def evaluation(data: Path, published: Published, *, update_card: bool) -> EvaluationConfig:
    repository = published.folder.parents[1]
    return EvaluationConfig(repository=repository, model="quick", data=data, device="cpu", update_card=update_card)


def test_temperature_comes_from_the_validation_split(network: nn.Module, data: Cifar10) -> None:
    """The temperature is fitted on pictures that are neither trained on nor tested on; both splits use it."""
    found = assess(network, data)

    validation, test = (evaluate(network, split, dtype=torch.float32) for split in (data.validation, data.test))
    assert found.temperature == fit_temperature(validation, data.validation.labels)
    assert found.validation == measure(validation, data.validation.labels, temperature=found.temperature)
    assert found.test == measure(test, data.test.labels, temperature=found.temperature)


def test_precisions_are_checked_as_they_are_served(network: nn.Module, data: Cifar10) -> None:
    """Every floating type but fp32 is measured on the network that serving would run in it, against fp32."""
    found = assess(network, data)

    served = evaluate(prepare(network, precision="bf16", layout="blocked"), data.test, dtype=torch.bfloat16)
    exact = evaluate(network, data.test, dtype=torch.float32)
    assert found.precisions.keys() == {"bf16"}
    assert found.precisions["bf16"].accuracy == accuracy(served, data.test.labels)
    assert found.precisions["bf16"].agreement == accuracy(served, exact.argmax(dim=1))


def test_network_that_diverged(network: nn.Module, data: Cifar10) -> None:
    """A network whose numbers are not finite is not assessed."""
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)

    with pytest.raises(Diverged, match="nothing was published"):
        assess(network, data)


def test_version_is_assessed_as_its_training_did(tiny_cifar10: Path, published: Published) -> None:
    """A second assessment finds what the training published, on the same split, and changes nothing on the disk."""
    before = read_card(published.folder)

    card = reassess(evaluation(tiny_cifar10, published, update_card=False))

    assert card == published.card
    assert read_card(published.folder) == before


def test_assessment_is_written_when_asked(tiny_cifar10: Path, published: Published) -> None:
    """With the flag, what was found takes the place of what the card said."""
    reassess(evaluation(tiny_cifar10, published, update_card=True))

    assert read_card(published.folder) == published.card


def test_other_data_are_refused(tiny_cifar10: Path, published: Published) -> None:
    """A version is assessed only on the data set that it was trained on."""
    card = published.card
    other = card.model_copy(update={"training": card.training.model_copy(update={"data_digest": "0" * 64})})
    update_card(published.folder, other)

    with pytest.raises(DataMissing, match="is not the data that"):
        reassess(evaluation(tiny_cifar10, published, update_card=False))
