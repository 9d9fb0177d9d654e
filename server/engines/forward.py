"""The forward pass: a network, a device and a precision. Knows PyTorch and the shared slots; no sockets.

On a CPU a pass runs in one thread. Two passes side by side do more than one pass in two threads: that
one waits some twenty times for its slower half, which shares its core with the event loop.
"""

import functools
import itertools
import time
from pathlib import Path
from typing import NamedTuple

import structlog
import torch

from models import checkpoint
from models.card import Card
from models.preprocessing import normalize
from models.variants import PRECISIONS, layouts, prepare
from server.engines import EngineInfo
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


class _Variant(NamedTuple):
    """One way to compute the same network; see `models.variants`."""

    precision: str
    layout: str


class Forward:
    """One network, ready to compute batches in shared slots."""

    def __init__(self, folder: Path, *, device: torch.device, precision: str, layout: str = "") -> None:
        """Load the version in `folder`.

        Args:
            folder: a version's folder.
            device: where to compute.
            precision: fp32, bf16, or auto for the fastest that the card allows.
            layout: of `models.variants`, or empty for the fastest.

        Raises:
            ModelError: the version is damaged, or its architecture is unknown.
            StartError: the card does not allow the precision.
        """
        loaded = checkpoint.load(folder, device=device)
        self._card = loaded.card
        self._device = device
        self._networks = {
            variant: prepare(loaded.network, precision=variant.precision, layout=variant.layout)
            for variant in itertools.starmap(
                _Variant,
                itertools.product(
                    _precisions(loaded.card, precision), [layout] if layout else layouts(loaded.network, device)
                ),
            )
        }
        self._variant = next(iter(self._networks))
        self._batch_seconds: dict[int, float] = {}

    @property
    def info(self) -> EngineInfo:
        """Where and how it computes; final after `warm_up`."""
        return EngineInfo(str(self._device), *self._variant, self._batch_seconds)

    def warm_up(self, slot: Slot) -> None:
        """Choose the fastest variant by measuring it; run every batch size once; measure some."""
        slot.images[:] = 127
        largest = len(slot.images)
        # One variant for all sizes: a picture's scores must not depend on how many others came with it.
        variant_seconds = {variant: self._measure(slot, largest, variant) for variant in self._networks}
        self._variant = min(variant_seconds, key=variant_seconds.__getitem__)
        self._networks = {self._variant: self._networks[self._variant]}  # the others' weights are freed
        self._batch_seconds = {size: self._measure(slot, size, self._variant) for size in _measured_sizes(largest)}
        for size in range(1, largest + 1):  # the first pass of each size builds its kernels
            self.compute(slot, size)
        _log.info(
            "measured",
            variant_ms={" ".join(variant): _milliseconds(cost) for variant, cost in variant_seconds.items()},
            batch_ms={size: _milliseconds(cost) for size, cost in self._batch_seconds.items()},
        )

    def wake_up(self, slot: Slot) -> None:
        """Run the smallest and the largest batch only; for an engine that starts again and must be ready soon."""
        slot.images[:] = 127
        for size in (1, len(slot.images)):
            self.compute(slot, size)

    def free_memory(self) -> None:
        """Give what PyTorch keeps for later back to the device."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def compute(self, slot: Slot, count: int) -> None:
        """Fill the first `count` rows of the slot's scores from its pictures."""
        views = _views(slot)
        inputs = normalize(views.images[:count].to(self._device), dtype=PRECISIONS[self._variant.precision])
        logits = self._networks[self._variant](inputs).float()
        probabilities = (logits / self._card.temperature).softmax(dim=1)
        ordered, indices = probabilities.sort(dim=1, descending=True, stable=True)
        views.probabilities[:count] = ordered
        views.indices[:count] = indices

    def _measure(self, slot: Slot, size: int, variant: _Variant) -> float:
        """Return the seconds of the fastest of a few passes."""
        self._variant = variant
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


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _measured_sizes(largest: int) -> tuple[int, ...]:
    """Powers of two up to the largest batch, and the largest."""
    return tuple(sorted({*(2**power for power in range(largest.bit_length()) if 2**power <= largest), largest}))
