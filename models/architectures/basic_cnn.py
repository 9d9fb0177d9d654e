"""`basic_cnn`: two convolutions, each with a pool, and one linear layer: the smallest network here."""

from torch import nn


def basic_cnn() -> nn.Module:
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 10,790 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 10, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(10, 20, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20 * 5 * 5, 10),
    )
