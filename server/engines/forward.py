"""The forward pass of one version: which way of computing it is the fastest here, and what batches cost.

Chooses between the devices' passes, `server.engines.cpu` and `server.engines.cuda`; knows no socket.
"""

import itertools
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import structlog
import torch

from models import checkpoint
from models.card import Card
from models.variants import layouts, prepare
from server.engines import EngineInfo
from server.engines.buckets import buckets
from server.engines.cpu import CpuPass
from server.engines.cuda import CudaPass
from server.engines.scoring import Scorer
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
    return device if device.type == "cpu" else torch.device("cuda", device.index or 0)


class _Variant(NamedTuple):
    """One way to compute the same network; see `models.variants`."""

    precision: str
    layout: str


class _Pass(Protocol):
    """Computes batches in one variant on one device."""

    def warm_up(self, slots: Sequence[Slot]) -> None:
        """Do once what must not be done while callers wait."""

    def wake_up(self, slots: Sequence[Slot]) -> None:
        """Do the least of it that lets an engine that starts again be ready soon."""

    def __call__(self, slot: Slot, count: int) -> None:
        """Fill the first `count` rows of the slot's scores from its pictures."""


class Forward:
    """One network, ready to compute batches in shared slots."""

    def __init__(
        self, folder: Path, *, device: torch.device, precision: str, compiled: bool = False, layout: str = ""
    ) -> None:
        """Load the version in `folder`.

        Args:
            folder: a version's folder.
            device: where to compute.
            precision: fp32, bf16, or auto for the fastest that the card allows.
            compiled: try the layout `compiled` too, which takes a while.
            layout: of `models.variants`, or empty for the fastest.

        Raises:
            ModelError: the version is damaged, or its architecture is unknown.
            StartError: this machine cannot compile.
        """
        if compiled:
            _require_compiler(device)
        loaded = checkpoint.load(folder, device=device)
        self._device = device
        all_layouts = (*layouts(loaded.network, device), *(["compiled"] if compiled else []))
        choices = itertools.product(_precisions(loaded.card, precision), [layout] if layout else all_layouts)
        self._passes = {
            variant: _make_pass(loaded, variant, device) for variant in itertools.starmap(_Variant, choices)
        }
        self._variant = next(iter(self._passes))
        self._batch_seconds: dict[int, float] = {}

    @property
    def info(self) -> EngineInfo:
        """Where and how it computes; final after `warm_up`."""
        return EngineInfo(str(self._device), *self._variant, self._batch_seconds)

    def warm_up(self, slots: Sequence[Slot]) -> None:
        """Choose the fastest variant by measuring it, measure some batch sizes, make all slots ready.

        Raises:
            StartError: the slots do not fit into the device's memory.
        """
        slot = slots[0]
        slot.images[:] = 127
        largest = len(slot.images)
        try:
            # One variant for all sizes: a picture's scores must not depend on how many others came with it.
            variant_seconds = {variant: self._measure(slot, largest, variant) for variant in self._passes}
            self._variant = min(variant_seconds, key=variant_seconds.__getitem__)
            self._passes = {self._variant: self._passes[self._variant]}  # the others' weights are freed
            self._batch_seconds = {size: self._measure(slot, size, self._variant) for size in buckets(largest)}
            self._passes[self._variant].warm_up(slots)
        except torch.OutOfMemoryError as exc:
            raise _too_large(slots) from exc
        _log.info(
            "measured",
            variant_ms={" ".join(variant): _milliseconds(cost) for variant, cost in variant_seconds.items()},
            batch_ms={size: _milliseconds(cost) for size, cost in self._batch_seconds.items()},
        )

    def wake_up(self, slots: Sequence[Slot]) -> None:
        """Measure nothing; for an engine that starts again and must be ready soon.

        Raises:
            StartError: the slots do not fit into the device's memory.
        """
        slots[0].images[:] = 127
        try:
            self._passes[self._variant].wake_up(slots)
        except torch.OutOfMemoryError as exc:
            raise _too_large(slots) from exc

    def free_memory(self) -> None:
        """Give what PyTorch keeps for later back to the device."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def compute(self, slot: Slot, count: int) -> None:
        """Fill the first `count` rows of the slot's scores from its pictures."""
        self._passes[self._variant](slot, count)

    def _measure(self, slot: Slot, size: int, variant: _Variant) -> float:
        """Return the seconds of the fastest of a few passes."""
        self._passes[variant](slot, size)
        return min(self._time(slot, size, variant) for _ in range(_MEASURED_PASSES))

    def _time(self, slot: Slot, size: int, variant: _Variant) -> float:
        started = time.perf_counter()
        self._passes[variant](slot, size)
        return time.perf_counter() - started


def _make_pass(loaded: checkpoint.Checkpoint, variant: _Variant, device: torch.device) -> _Pass:
    network = prepare(loaded.network, precision=variant.precision, layout=variant.layout)
    scorer = Scorer(network, precision=variant.precision, temperature=loaded.card.temperature)
    return CudaPass(scorer, device) if device.type == "cuda" else CpuPass(scorer)


def _precisions(card: Card, wanted: str) -> tuple[str, ...]:
    """Return the precisions to choose from: the one that is wanted, or all that the card allows."""
    if wanted == "auto":
        return card.allowed_precisions()
    return (wanted,)


def _require_compiler(device: torch.device) -> None:
    if device.type != "cpu":
        raise StartError(f"--compile: expected --device cpu, got {device}; CUDA graphs are used there")
    compiler = os.environ.get("CXX", "g++")  # as TorchInductor looks for it
    if not shutil.which(compiler):
        raise StartError(f"--compile: no C++ compiler {compiler!r} found; install one or leave the flag out")


def _too_large(slots: Sequence[Slot]) -> StartError:
    return StartError(
        f"{len(slots)} batches of {len(slots[0].images)} pictures do not fit into the device's memory:"
        " lower --lanes or --max-batch-size"
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)
