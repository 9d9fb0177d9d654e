from pathlib import Path

import numpy as np
import pytest
import torch

from server.engines.forward import Forward, select_device
from server.engines.shared import SharedBatches, Slot

CPU = torch.device("cpu")


@pytest.fixture
def slot() -> Slot:
    slot = SharedBatches.create(max_batch_size=8, slots=1).slots[0]
    slot.images[:] = np.random.default_rng(0).integers(0, 256, slot.images.shape, np.uint8)
    return slot


def make_forward(repository: Path, *, precision: str = "fp32") -> Forward:
    return Forward(repository / "quick" / "2", device=CPU, precision=precision)


def test_warm_up_measures_powers_of_two_and_the_largest(repository: Path, slot: Slot) -> None:
    """Every power of two up to the largest batch has a measured cost."""
    forward = make_forward(repository)

    forward.warm_up(slot)

    assert list(forward.info.batch_seconds) == [1, 2, 4, 8]


def test_auto_takes_only_what_the_card_allows(repository: Path, slot: Slot) -> None:
    """A card that vouches for no other precision is served in fp32, however fast bf16 may be."""
    forward = make_forward(repository, precision="auto")
    forward.warm_up(slot)

    assert forward.info.precision == "fp32"


def test_bf16_is_near_fp32(repository: Path, slot: Slot) -> None:
    """bf16 gives nearly the probabilities of fp32."""
    make_forward(repository).compute(slot, 8)
    exact = slot.probabilities.copy()
    make_forward(repository, precision="bf16").compute(slot, 8)

    assert np.abs(slot.probabilities - exact).max() <= 1e-2


def test_only_the_rows_asked_for_are_written(repository: Path, slot: Slot) -> None:
    """A batch smaller than the slot leaves the other rows alone."""
    slot.probabilities[:] = -1
    make_forward(repository).compute(slot, 3)

    assert (slot.probabilities[:3] >= 0).all()
    assert (slot.probabilities[3:] == -1).all()


def test_auto_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, auto is the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert select_device("auto") == CPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_gpu_agrees_with_the_cpu(repository: Path, slot: Slot) -> None:
    """The GPU gives nearly the CPU's probabilities."""
    make_forward(repository).compute(slot, 8)
    exact = slot.probabilities.copy()
    Forward(repository / "quick" / "2", device=torch.device("cuda"), precision="fp32").compute(slot, 8)

    assert np.abs(slot.probabilities - exact).max() <= 1e-2
