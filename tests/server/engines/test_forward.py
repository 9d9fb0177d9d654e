import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from server.engines.cpu import CpuPass
from server.engines.forward import Forward, select_device
from server.engines.shared import SharedBatches, Slot
from server.errors import StartError

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

    forward.warm_up([slot])

    assert list(forward.info.batch_seconds) == [1, 2, 4, 8]


def test_auto_takes_only_what_the_card_allows(repository: Path, slot: Slot) -> None:
    """A card that vouches for no other precision is served in fp32, however fast bf16 may be."""
    forward = make_forward(repository, precision="auto")
    forward.warm_up([slot])

    assert forward.info.precision == "fp32"


def test_bf16_is_near_fp32(repository: Path, slot: Slot) -> None:
    """bf16 gives nearly the probabilities of fp32."""
    make_forward(repository).compute(slot, 8)
    exact = slot.probabilities.copy()
    make_forward(repository, precision="bf16").compute(slot, 8)

    assert np.abs(slot.probabilities - exact).max() <= 1e-2


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler on this machine")
@pytest.mark.timeout(300)
def test_compiled_network_gives_the_same(repository: Path, slot: Slot) -> None:
    """What TorchInductor makes of a network has the probabilities of the network."""
    make_forward(repository).compute(slot, 8)
    exact = slot.probabilities.copy()
    forward = Forward(repository / "quick" / "2", device=CPU, precision="fp32", compiled=True, layout="compiled")
    slot.probabilities[:] = -1
    forward.compute(slot, 8)

    assert forward.info.layout == "compiled"
    assert np.abs(slot.probabilities - exact).max() <= 1e-5


def test_compiling_needs_a_compiler(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C++ compiler the flag is refused in one line that says what to do."""
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(StartError, match=r"--compile: no C\+\+ compiler 'no-such-compiler' found; install one"):
        Forward(repository / "quick" / "2", device=CPU, precision="fp32", compiled=True)


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


def test_gpu_without_a_number_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--device cuda` is a certain GPU, and is reported as such."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert select_device("cuda") == torch.device("cuda:0")
    assert select_device("cuda:1") == torch.device("cuda:1")


def test_slots_that_do_not_fit_are_a_start_error(repository: Path, slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the device's memory is too small for the slots, one line says which flags to lower."""

    def run_out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(CpuPass, "warm_up", run_out_of_memory)
    monkeypatch.setattr(CpuPass, "wake_up", run_out_of_memory)
    forward = make_forward(repository)

    for start in (forward.warm_up, forward.wake_up):
        with pytest.raises(
            StartError, match=r"1 batches of 8 pictures do not fit .* lower --lanes or --max-batch-size"
        ):
            start([slot])
