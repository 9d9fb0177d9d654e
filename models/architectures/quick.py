"""`quick`: the three-convolution network of the CIFAR-10 tutorials. Max-pooling is its only non-linearity."""

from torch import nn


def quick() -> nn.Module:
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 145,578 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 32, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64),
        nn.Linear(64, 10),
    )
