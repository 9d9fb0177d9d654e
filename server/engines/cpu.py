"""Passes on the CPU: in the shared memory itself, in the thread that asks.

A pass has one thread. Two passes side by side do more than one pass in two threads: that one waits some
twenty times for its slower half, which shares its core with the event loop.
"""

from collections.abc import Sequence

import torch

from server.engines.scoring import Scorer, tensors_of
from server.engines.shared import Slot


class CpuPass:
    """Computes a slot's batch on the CPU."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def warm_up(self, slots: Sequence[Slot]) -> None:
        """Run every batch size: the first pass of each builds its kernels, for all slots."""
        for size in range(1, len(slots[0].images) + 1):
            self(slots[0], size)

    def wake_up(self, slots: Sequence[Slot]) -> None:
        """Run the smallest and the largest batch only; the others build their kernels when they come."""
        for size in (1, len(slots[0].images)):
            self(slots[0], size)

    @torch.inference_mode()
    def __call__(self, slot: Slot, count: int) -> None:
        """Fill the first `count` rows of the slot's scores from its pictures."""
        tensors = tensors_of(slot)
        scores = self._scorer(tensors.images[:count])
        tensors.probabilities[:count] = scores.probabilities
        tensors.indices[:count] = scores.indices
