"""`mlp`: fully connected layers only; it does not know that pixels have neighbours."""

import itertools

from torch import nn

_WIDTHS = (3072, 512, 256, 128, 64, 10)


def mlp() -> nn.Module:
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 1,746,506 parameters."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(_WIDTHS):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
