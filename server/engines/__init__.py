"""Engines compute batches. The seam: one real engine here, one named fake in the tests."""

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


class Engine(Protocol):
    """Computes probabilities for batches of pictures, one batch at a time.

    Entering loads and warms it up: inside, every `predict` is as fast as the last. Leaving frees it.
    """

    @property
    def device(self) -> str:
        """Where it computes, such as "cpu" or "cuda:0"."""

    @property
    def precision(self) -> str:
        """The floating type of the forward pass, such as "fp32"."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def predict(self, images: Sequence[Pixels]) -> Sequence[Probabilities]:
        """Return the probabilities of each picture.

        Args:
            images: uint8 (32, 32, 3), RGB, at least one and at most the engine's batch size.

        Returns:
            float32 (labels,) for each picture, in their order; they sum to 1.
        """
