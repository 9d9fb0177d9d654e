"""The PyTorch engine: one network, one device, one thread of its own. Knows no batching and no protocol."""

import asyncio
import concurrent.futures
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar, TypeVarTuple

import numpy as np
import structlog
import torch

from models import checkpoint
from models.card import Card
from models.preprocessing import IMAGE_SHAPE, normalize
from server.engines import Pixels, Probabilities
from server.errors import StartError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_log = structlog.get_logger(__name__)


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


class LocalEngine:
    """Computes batches of one checkpoint on one device.

    All work on the network happens in a single thread of the engine's own, so that the event loop
    stays free and batches never overlap.
    """

    def __init__(self, folder: Path, *, device: torch.device, max_batch_size: int) -> None:
        """Nothing is read before the engine is entered.

        Args:
            folder: a version's folder, with `model.pt` and `model.json`.
            device: where to compute.
            max_batch_size: the largest batch that `predict` will be given.
        """
        self._folder = folder
        self._device = device
        self._max_batch_size = max_batch_size
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def __aenter__(self) -> Self:
        """Load, verify and warm up.

        Raises:
            ModelError: the version is damaged or its architecture is unknown.
        """
        try:
            await self._in_thread(self._load)
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._thread.shutdown()

    @property
    def device(self) -> str:
        """Where it computes, such as "cpu" or "cuda:0"."""
        return str(self._device)

    @property
    def precision(self) -> str:
        """The floating type of the forward pass."""
        return "fp32"

    @property
    def card(self) -> Card:
        """The card of the loaded checkpoint."""
        return self._card

    async def predict(self, images: Sequence[Pixels]) -> list[Probabilities]:
        """Return the calibrated probabilities of each picture: see `Engine.predict`."""
        return await self._in_thread(self._compute, images)

    def _in_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _load(self) -> None:
        loaded = checkpoint.load(self._folder, device=self._device)
        self._card = loaded.card
        self._network = loaded.network.to(memory_format=torch.channels_last)
        # One buffer for all batches: its rows are overwritten, nothing is allocated per batch.
        self._staging = torch.empty((self._max_batch_size, *IMAGE_SHAPE), dtype=torch.uint8)
        self._staging_rows = self._staging.numpy()
        grey = np.full(IMAGE_SHAPE, 127, np.uint8)
        for size in _warmup_sizes(self._max_batch_size):
            self._compute([grey] * size)

    @torch.inference_mode()
    def _compute(self, images: Sequence[Pixels]) -> list[Probabilities]:
        for row, image in enumerate(images):
            self._staging_rows[row] = image
        inputs = normalize(self._staging[: len(images)].to(self._device), dtype=torch.float32)
        logits = self._network(inputs) / self._card.temperature
        return list(logits.softmax(dim=1).cpu().numpy())


def _warmup_sizes(max_batch_size: int) -> list[int]:
    """Powers of two up to the largest batch, and the largest."""
    sizes = [1]
    while sizes[-1] * 2 < max_batch_size:
        sizes.append(sizes[-1] * 2)
    return sorted({*sizes, max_batch_size})
