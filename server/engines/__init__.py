"""Engines compute batches. The seam: one real engine here, one named fake in the tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

Pixels = bytes
"""A picture: 3072 bytes, 32 rows of 32 pixels of red, green and blue."""


class Scores(NamedTuple):
    """One picture's labels, most probable first: `indices[0]` is the best, with `probabilities[0]`.

    Both have one entry per label; the probabilities sum to 1. Equal ones keep the order of the labels.
    """

    indices: list[int]
    probabilities: list[float]


@dataclass(frozen=True)
class EngineInfo:
    """How an engine computes, found out while it warmed up.

    Attributes:
        device: such as "cpu" or "cuda:0".
        precision: the floating type of the forward pass, such as "bf16".
        layout: how activations lie in memory, "channels_last", "blocked" or "compiled"; see `models.variants`.
        batch_seconds: the measured seconds of one forward pass, by batch size.
    """

    device: str
    precision: str
    layout: str
    batch_seconds: dict[int, float]

    def pass_seconds(self, size: int) -> float:
        """Return the expected seconds of a forward pass of `size` pictures, between the measured ones on a line."""
        sizes = sorted(self.batch_seconds)
        above = next((measured for measured in sizes if measured >= size), sizes[-1])
        below = next((measured for measured in reversed(sizes) if measured <= size), sizes[0])
        low, high = self.batch_seconds[below], self.batch_seconds[above]
        return low if above <= below else low + (high - low) * (size - below) / (above - below)


class Engine(Protocol):
    """Computes scores for batches of pictures.

    Entering loads and warms it up: inside, every `predict` is as fast as the last. Leaving frees it.
    """

    @property
    def info(self) -> EngineInfo:
        """How it computes; known once it is entered."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def predict(self, images: Sequence[Pixels]) -> Sequence[Scores]:
        """Return the scores of each picture, in their order.

        Args:
            images: at least one and at most the engine's batch size.

        Raises:
            EngineFailed: the forward pass failed.
        """
