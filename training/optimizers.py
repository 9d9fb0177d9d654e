"""The optimizers that a recipe can name."""

from collections.abc import Iterable

import torch
from torch import nn

from training.recipes import Recipe


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer for the trained weights of `network`; the loop sets its learning rate.

    Weight decay works on matrices and kernels, not on biases and normalizations.
    """
    groups = _decayed_and_not(network.parameters(), recipe.weight_decay)
    match recipe.optimizer:
        case "sgd":
            # Nesterov's look-ahead needs a momentum to look along.
            momentum = recipe.momentum
            return torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=0.0, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=0.0, fused=True)


def _decayed_and_not(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
