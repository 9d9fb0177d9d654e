"""The forward pass: a network, a device and a precision. Knows PyTorch and the shared slots; no sockets.

On a CPU a pass runs in one thread. Two passes side by side do more than one pass in two threads: that
one waits some twenty times for its slower half, which shares its core with the event loop.
"""

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog
import torch

from models import checkpoint
from models.card import Card
from models.preprocessing import normalize
from models.variants import PRECISIONS, prepare
from server.engines.shared import Slot
from server.errors import StartError

_log = structlog.get_logger(__name__)

_MEASURED_PASSES = 3


def select_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is the GPU where there is one, else the CPU with a warning.

    Raises:
        StartError: a GPU was named that is not there.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        if not available:
            _log.warning("no CUDA device found, computing on the CPU")
        return torch.device("cuda:0" if available else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= available:
        raise StartError(f"--device {name}: this machine has {available} usable CUDA devices; use auto or cpu")
    return device


@dataclass(frozen=True)
class ForwardInfo:
    """Where and in which floating type the network computes."""

    device: str
    precision: str


class Forward:
    """One network, ready to compute batches in shared slots."""

    def __init__(self, folder: Path, *, device: torch.device, precision: str) -> None:
        """Load the version in `folder`.

        Args:
            folder: a version's folder.
            device: where to compute.
            precision: fp32, bf16, or auto for the fastest that the card allows.

        Raises:
            ModelError: the version is damaged, or its architecture is unknown.
            StartError: the card does not allow the precision.
        """
        loaded = checkpoint.load(folder, device=device)
        self._card = loaded.card
        self._device = device
        self._networks = {name: prepare(loaded.network, precision=name) for name in _precisions(loaded.card, precision)}
        self._precision = next(iter(self._networks))

    @property
    def info(self) -> ForwardInfo:
        """Where and how it computes; the precision is final after `warm_up`."""
        return ForwardInfo(str(self._device), self._precision)

    def warm_up(self, slot: Slot) -> dict[int, float]:
        """Choose the precision by measuring; run every batch size once; return seconds by batch size."""
        slot.images[:] = 127
        largest = len(slot.images)
        self._precision = self._fastest_precision(slot, largest)
        seconds = {size: self._measure(slot, size) for size in _measured_sizes(largest)}
        for size in range(1, largest + 1):  # the first pass of each size builds its kernels
            self.compute(slot, size)
        _log.info(
            "measured",
            precision=self._precision,
            batch_ms={size: round(cost * 1000, 2) for size, cost in seconds.items()},
        )
        return seconds

    def wake_up(self, slot: Slot) -> dict[int, float]:
        """Run the smallest and the largest batch only; for an engine that starts again and must be ready soon."""
        slot.images[:] = 127
        for size in (1, len(slot.images)):
            self.compute(slot, size)
        return {}

    def free_memory(self) -> None:
        """Give what PyTorch keeps for later back to the device."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def compute(self, slot: Slot, count: int) -> None:
        """Fill the first `count` rows of the slot's scores from its pictures."""
        views = _views(slot)
        inputs = normalize(views.images[:count].to(self._device), dtype=PRECISIONS[self._precision])
        logits = self._networks[self._precision](inputs).float()
        probabilities = (logits / self._card.temperature).softmax(dim=1)
        ordered, indices = probabilities.sort(dim=1, descending=True, stable=True)
        views.probabilities[:count] = ordered
        views.indices[:count] = indices

    def _fastest_precision(self, slot: Slot, size: int) -> str:
        def seconds(name: str) -> float:
            self._precision = name
            return self._measure(slot, size)

        return min(self._networks, key=seconds)

    def _measure(self, slot: Slot, size: int) -> float:
        """Return the seconds of the fastest of a few passes."""
        self.compute(slot, size)
        return min(self._time(slot, size) for _ in range(_MEASURED_PASSES))

    def _time(self, slot: Slot, size: int) -> float:
        started = time.perf_counter()
        self.compute(slot, size)
        return time.perf_counter() - started


class _Views(NamedTuple):
    """A slot's arrays as tensors over the same memory."""

    images: torch.Tensor
    probabilities: torch.Tensor
    indices: torch.Tensor


@functools.cache
def _views(slot: Slot) -> _Views:
    return _Views(*map(torch.from_numpy, (slot.images, slot.probabilities, slot.indices)))


def _precisions(card: Card, wanted: str) -> tuple[str, ...]:
    """Return the precisions to choose from: the one that is wanted, or all that the card allows."""
    if wanted == "auto":
        return card.allowed_precisions()
    return (wanted,)


def _measured_sizes(largest: int) -> tuple[int, ...]:
    """Powers of two up to the largest batch, and the largest."""
    return tuple(sorted({*(2**power for power in range(largest.bit_length()) if 2**power <= largest), largest}))
