import pytest
import torch
from torch import nn

from models import registry
from training.optimizers import build_optimizer
from training.recipes import Optimizer, Recipe, recipe_for


def recipe(**changes: object) -> Recipe:
    return Recipe(**{**vars(recipe_for("quick")), **changes})


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimizer_is_the_one_that_was_named(name: Optimizer, kind: type[torch.optim.Optimizer]) -> None:
    """The recipe's word is PyTorch's class; its rate is left to the schedule."""
    optimizer = build_optimizer(nn.Linear(2, 2), recipe(optimizer=name))

    assert type(optimizer) is kind
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_looks_ahead(momentum: float) -> None:
    """SGD with momentum is Nesterov's; without it, it is the plain one."""
    (group, _) = build_optimizer(nn.Linear(2, 2), recipe(optimizer="sgd", momentum=momentum)).param_groups

    assert (group["momentum"], group["nesterov"]) == (momentum, momentum > 0)


def test_decay_is_for_weights_not_for_biases() -> None:
    """Biases and normalizations are not decayed, and frozen parameters are left out."""
    network = registry.build("whitened")

    optimizer = build_optimizer(network, recipe(weight_decay=0.25))

    decay = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    names = {name: decay.get(parameter) for name, parameter in network.named_parameters()}
    assert names["stem.weight"] is None
    assert names["blocks.0.reduce.2.weight"] is None
    assert names["stem.bias"] == names["blocks.0.reduce.2.bias"] == 0.0
    assert names["head.weight"] == names["blocks.0.reduce.0.weight"] == 0.25
