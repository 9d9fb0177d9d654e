"""From pixels to sorted scores, as tensors: what every device computes. Knows no device and no socket."""

import functools
from typing import NamedTuple

import torch
from torch import nn

from models.preprocessing import normalize
from models.variants import PRECISIONS
from server.engines.shared import Slot


class SlotTensors(NamedTuple):
    """Room for one batch as tensors; the shapes and types are those of `server.engines.shared.Slot`."""

    images: torch.Tensor
    probabilities: torch.Tensor
    indices: torch.Tensor


@functools.cache
def tensors_of(slot: Slot) -> SlotTensors:
    """Return a slot's arrays as tensors over the same memory."""
    return SlotTensors(*map(torch.from_numpy, (slot.images, slot.probabilities, slot.indices)))


class SortedScores(NamedTuple):
    """Probabilities, float32 (batch, labels), largest first; and the label that each belongs to, int64."""

    probabilities: torch.Tensor
    indices: torch.Tensor


class Scorer:
    """A network in one precision, with what comes before and after it."""

    def __init__(self, network: nn.Module, *, precision: str, temperature: float) -> None:
        """Take a network that `models.variants.prepare` made for `precision`."""
        self._network = network
        self._dtype = PRECISIONS[precision]
        self._temperature = temperature

    def __call__(self, images: torch.Tensor) -> SortedScores:
        """Return the scores of uint8 pictures (batch, 32, 32, 3), computed where they are."""
        logits = self._network(normalize(images, dtype=self._dtype)).float()
        probabilities = (logits / self._temperature).softmax(dim=1)
        return SortedScores(*probabilities.sort(dim=1, descending=True, stable=True))
