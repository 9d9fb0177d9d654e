"""Passes on a GPU: each slot has a stream, pinned and device copies of its arrays, and one CUDA graph per bucket.

A pass of a small network is dozens of short kernels; a graph launches them at once. A graph has one batch
size, so a batch is computed in the smallest bucket that holds it. The rows behind it keep what an earlier batch
left there; no row looks at another, and only a batch's own rows are copied back.

https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs has the rules of capturing.
"""

from collections.abc import Sequence

import torch

from server.engines.buckets import bucket, buckets
from server.engines.scoring import Scorer, SlotTensors, tensors_of
from server.engines.shared import Slot

# What a pass does only once must not be captured: choosing kernels, making workspaces and constants.
_PASSES_BEFORE_CAPTURE = 2


class CudaPass:
    """Computes a slot's batch on a GPU. Passes of different slots may run at the same time."""

    def __init__(self, scorer: Scorer, device: torch.device) -> None:
        self._scorer = scorer
        self._device = device
        self._slots: dict[Slot, _SlotOnDevice] = {}

    def warm_up(self, slots: Sequence[Slot]) -> None:
        """Capture every bucket of every slot: while a graph is captured nothing else should use the device.

        Raises:
            torch.OutOfMemoryError: the slots do not fit into the device's memory.
        """
        for slot in slots:
            for size in reversed(buckets(len(slot.images))):  # the smaller ones fit into the memory of the largest
                self(slot, size)

    def wake_up(self, slots: Sequence[Slot]) -> None:
        """Do the same: a graph that is missing would be captured beside passes of other slots."""
        self.warm_up(slots)

    @torch.inference_mode()
    def __call__(self, slot: Slot, count: int) -> None:
        """Fill the first `count` rows of the slot's scores from its pictures."""
        if slot not in self._slots:
            self._slots[slot] = _SlotOnDevice(slot, self._scorer, self._device)
        self._slots[slot].compute(count)


class Staging:
    """A slot's arrays three times: shared with the server, pinned, and on the device.

    Only pinned memory is copied from and to a device while the thread goes on.
    """

    def __init__(self, slot: Slot, device: torch.device) -> None:
        self._shared = tensors_of(slot)
        pinned = device.type == "cuda"
        self._pinned = SlotTensors(*(torch.empty_like(tensor, pin_memory=pinned) for tensor in self._shared))
        self.on_device = SlotTensors(*(torch.zeros_like(tensor, device=device) for tensor in self._shared))

    def send(self, count: int) -> None:
        """Begin to copy the first `count` pictures to the device, on the current stream."""
        self._pinned.images[:count].copy_(self._shared.images[:count])
        self.on_device.images[:count].copy_(self._pinned.images[:count], non_blocking=True)

    def fetch(self, count: int) -> None:
        """Begin to copy the scores of the first `count` pictures back, on the current stream."""
        self._pinned.probabilities[:count].copy_(self.on_device.probabilities[:count], non_blocking=True)
        self._pinned.indices[:count].copy_(self.on_device.indices[:count], non_blocking=True)

    def deliver(self, count: int) -> None:
        """Give the server what was fetched; the stream must have been waited for."""
        self._shared.probabilities[:count] = self._pinned.probabilities[:count]
        self._shared.indices[:count] = self._pinned.indices[:count]


def run(scorer: Scorer, tensors: SlotTensors, size: int) -> None:
    """Compute the first `size` rows of `tensors` in place: what a graph captures."""
    scores = scorer(tensors.images[:size])
    tensors.probabilities[:size].copy_(scores.probabilities)
    tensors.indices[:size].copy_(scores.indices)


class _SlotOnDevice:
    """One slot's staging, stream and graphs; computes one batch at a time."""

    def __init__(self, slot: Slot, scorer: Scorer, device: torch.device) -> None:
        self._largest = len(slot.images)
        self._scorer = scorer
        self._device = device
        self._staging = Staging(slot, device)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # The graphs of one slot never run at the same time, and what they begin with and leave behind lies in the
        # staging: they may use the same memory in any order.
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def compute(self, count: int) -> None:
        size = bucket(count, largest=self._largest)
        if size not in self._graphs:
            self._graphs[size] = self._capture(size)
        with torch.cuda.stream(self._stream):
            self._staging.send(count)
            self._graphs[size].replay()
            self._staging.fetch(count)
        self._stream.synchronize()
        self._staging.deliver(count)

    def _capture(self, size: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # A bucket's shapes never change, so that it pays to try cuDNN's algorithms. TF32 rounds to ten bits, but a
        # picture's probabilities in fp32 must not depend on its bucket by more than 1e-5.
        exact_and_tried = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        with torch.cuda.device(self._device), exact_and_tried:
            torch.cuda.synchronize()  # the staging's zeros were written on another stream
            with torch.cuda.stream(self._stream):
                for _ in range(_PASSES_BEFORE_CAPTURE):
                    run(self._scorer, self._staging.on_device, size)
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                run(self._scorer, self._staging.on_device, size)
        return graph
