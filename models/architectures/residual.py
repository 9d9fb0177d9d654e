"""`residual`: a small network of two residual blocks without normalization."""

import torch
from torch import nn


def residual() -> nn.Module:
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 45,194 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 16, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        ResidualBlock(16),
        nn.Conv2d(16, 32, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        ResidualBlock(32),
        nn.Flatten(),
        nn.Linear(32 * 5 * 5, 10),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose output is added to their input (K. He et al., arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (batch, channels, height, width), the shape of `inputs`."""
        return torch.relu(inputs + self.conv2(torch.relu(self.conv1(inputs))))
