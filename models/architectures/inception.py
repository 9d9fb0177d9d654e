"""`inception`: a small network of two InceptionA blocks: four views of the same picture side by side.

The block is that of C. Szegedy et al., "Rethinking the Inception Architecture" (arXiv:1512.00567), figure 5.
"""

import torch
from torch import nn

_BLOCK_CHANNELS = 16 + 3 * 24


def inception() -> nn.Module:
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 105,718 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 10, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        InceptionA(10),
        nn.Conv2d(_BLOCK_CHANNELS, 20, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        InceptionA(20),
        nn.Flatten(),
        nn.Linear(_BLOCK_CHANNELS * 5 * 5, 10),
    )


class InceptionA(nn.Module):
    """(batch, in_channels, height, width) to (batch, 88, height, width): four branches, concatenated."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch_pool = nn.Sequential(
            nn.AvgPool2d(kernel_size=3, stride=1, padding=1), nn.Conv2d(in_channels, 24, kernel_size=1)
        )
        self.branch1x1 = nn.Conv2d(in_channels, 16, kernel_size=1)
        self.branch5x5 = nn.Sequential(
            nn.Conv2d(in_channels, 16, kernel_size=1), nn.Conv2d(16, 24, kernel_size=5, padding=2)
        )
        self.branch3x3 = nn.Sequential(
            nn.Conv2d(in_channels, 16, kernel_size=1),
            nn.Conv2d(16, 24, kernel_size=3, padding=1),
            nn.Conv2d(24, 24, kernel_size=3, padding=1),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the four branches side by side: 16, 24, 24 and 24 channels."""
        branches = (self.branch1x1, self.branch5x5, self.branch3x3, self.branch_pool)
        return torch.cat([branch(inputs) for branch in branches], dim=1)
