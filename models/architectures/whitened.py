"""`whitened`: three convolution blocks behind a frozen layer that whitens 2x2 patches.

The whitening stem, the pooling before normalization and the identity start follow K. Jordan, "94% on
CIFAR-10 in 3.29 Seconds on a Single GPU" (arXiv:2404.00498). Blocks two and three have a third
convolution with a shortcut: at 7x7 and 3x3 it buys accuracy for a few percent of CPU time.
"""

import torch
from torch import nn

_STEM_CHANNELS = 24  # both signs of the 12 eigenvectors of a 2x2 RGB patch
_LOGIT_SCALE = 1 / 9


def whitened() -> "WhitenedNet":
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 3,153,464 parameters."""
    return WhitenedNet((64, 256, 256), residual=(False, True, True))


class WhitenedNet(nn.Module):
    """(batch, 3, 32, 32) normalized pictures to logits (batch, 10).

    `widths` are the channels of the three blocks; `residual` says which of them have a third convolution.
    """

    def __init__(self, widths: tuple[int, int, int], *, residual: tuple[bool, bool, bool]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM_CHANNELS, kernel_size=2)
        self.stem.weight.requires_grad = False
        self.blocks = nn.Sequential(
            *(
                _Block(in_channels, channels, residual=third)
                for in_channels, channels, third in zip((_STEM_CHANNELS, *widths), widths, residual, strict=False)
            )
        )
        self.pool = nn.MaxPool2d(3)
        self.head = nn.Linear(widths[-1], 10, bias=False)
        self.activation = nn.GELU()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, 10) of normalized pictures (batch, 3, 32, 32)."""
        features = self.blocks(self.activation(self.stem(inputs)))
        logits: torch.Tensor = self.head(self.pool(features).flatten(1)) * _LOGIT_SCALE
        return logits

    @torch.no_grad()
    def initialize_from(self, inputs: torch.Tensor) -> None:
        """Set the stem to the whitening transform of `inputs`: normalized, (several thousand, 3, 32, 32)."""
        patches = nn.functional.unfold(inputs.float(), kernel_size=2).transpose(1, 2).reshape(-1, 12)
        eigenvalues, eigenvectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        # The smallest eigenvalues belong to noise; the constant keeps it from being blown up.
        filters = (eigenvectors / (eigenvalues + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
        self.stem.weight.copy_(torch.cat([filters, -filters]))
        self.stem.bias.zero_()  # type: ignore[union-attr]  # built with a bias above


class _Block(nn.Module):
    """Halve the resolution, then refine: two convolutions, or three with a shortcut over the third."""

    def __init__(self, in_channels: int, channels: int, *, residual: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(_convolution(in_channels, channels), nn.MaxPool2d(2), _normalization(channels))
        self.refine = nn.Sequential(_convolution(channels, channels), _normalization(channels))
        self.shortcut = nn.Sequential(_convolution(channels, channels), _normalization(channels)) if residual else None
        self.activation = nn.GELU()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        reduced = self.activation(self.reduce(inputs))
        refined: torch.Tensor = self.activation(self.refine(reduced))
        if self.shortcut is None:
            return refined
        output: torch.Tensor = self.activation(self.shortcut(refined) + reduced)
        return output


def _convolution(in_channels: int, channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight[:in_channels])  # the first channels start as a copy of the input
    return convolution


def _normalization(channels: int) -> nn.BatchNorm2d:
    normalization = nn.BatchNorm2d(channels)
    # A fixed positive scale commutes with max-pooling, so that serving can fold it into the convolution.
    normalization.weight.requires_grad = False
    return normalization
