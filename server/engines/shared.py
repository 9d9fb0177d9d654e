"""The memory that the server shares with an engine's process: pictures go in, scores come out.

Knows where what lies, and nothing of what it means; both sides map the same file of memory.
"""

import mmap
import os
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from models.labels import LABELS
from models.preprocessing import IMAGE_BYTES, IMAGE_SHAPE

_SCORE_BYTES = len(LABELS) * (1 + 4)


@dataclass(frozen=True, eq=False)
class Slot:
    """Room for one batch; the arrays and `pixels` are views of the same memory.

    Attributes:
        pixels: the bytes of `images`, picture after picture.
        images: uint8 (max_batch_size, 32, 32, 3).
        probabilities: float32 (max_batch_size, labels), largest first.
        indices: uint8 (max_batch_size, labels): the label that each probability belongs to.
    """

    pixels: memoryview
    images: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]
    indices: npt.NDArray[np.uint8]


class SharedBatches:
    """Slots in anonymous memory that another process can map by its file descriptor."""

    def __init__(self, descriptor: int, *, max_batch_size: int, slots: int) -> None:
        """Map the memory behind `descriptor`, which `close` closes."""
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, slots * _slot_bytes(max_batch_size))
        self.slots = tuple(_slot(self._memory, number, max_batch_size) for number in range(slots))

    @classmethod
    def create(cls, *, max_batch_size: int, slots: int) -> Self:
        """Make new memory; `descriptor` can be passed on to a child process."""
        descriptor = os.memfd_create("cifarserve-batches")
        os.ftruncate(descriptor, slots * _slot_bytes(max_batch_size))
        return cls(descriptor, max_batch_size=max_batch_size, slots=slots)

    def close(self) -> None:
        """Give the memory back as soon as nobody holds a slot any more.

        The mapping holds a descriptor of its own, which would else stay until the garbage collector finds it.
        """
        os.close(self.descriptor)
        self.slots = ()
        del self._memory


def _slot_bytes(max_batch_size: int) -> int:
    # Whole pages, so that every array of every slot is aligned.
    size = max_batch_size * (IMAGE_BYTES + _SCORE_BYTES)
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _slot(memory: mmap.mmap, number: int, max_batch_size: int) -> Slot:
    images = number * _slot_bytes(max_batch_size)
    probabilities = images + max_batch_size * IMAGE_BYTES
    indices = probabilities + max_batch_size * len(LABELS) * 4
    scores_shape = (max_batch_size, len(LABELS))
    return Slot(
        pixels=memoryview(memory)[images:probabilities],
        images=np.ndarray((max_batch_size, *IMAGE_SHAPE), np.uint8, memory, images),
        probabilities=np.ndarray(scores_shape, np.float32, memory, probabilities),
        indices=np.ndarray(scores_shape, np.uint8, memory, indices),
    )
