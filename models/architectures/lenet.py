"""`lenet`: two convolutions and three linear layers, after LeNet-5 (LeCun et al., 1998), for three colours."""

import torch
from torch import nn


def lenet() -> nn.Module:
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 62,006 parameters.

    The modules are numbered by kind, as the tutorials name them: conv1, conv2, fc1, fc2, fc3.
    """
    return LeNet()


class LeNet(nn.Module):
    """conv5x5-6, conv5x5-16, each with a pool, then 400-120-84-10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.pool = nn.MaxPool2d(2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, 10) of normalized pictures (batch, 3, 32, 32)."""
        features = torch.relu(self.pool(self.conv1(inputs)))
        features = torch.relu(self.pool(self.conv2(features))).flatten(1)
        logits: torch.Tensor = self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(features)))))
        return logits
