from pathlib import Path

import pytest
import torch
from torch import nn

from models import registry
from models.variants import prepare
from training.assessment import assess
from training.calibration import fit_temperature
from training.data import Cifar10, load_cifar10
from training.errors import Diverged
from training.evaluation import accuracy, evaluate, measure


@pytest.fixture
def data(tiny_cifar10: Path) -> Cifar10:
    return load_cifar10(tiny_cifar10, validation_images=50, seed=0, download=False)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return registry.build("whitened")


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

    served = evaluate(prepare(network, precision="bf16"), data.test, dtype=torch.bfloat16)
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
