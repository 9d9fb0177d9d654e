"""A network whose faults are asked for by pictures: a picture of one colour names the fault by its red value."""

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from models import registry
from models.preprocessing import normalize
from tests.conftest import publish

POISON = 1  # the forward pass raises
CRASH = 2  # the process is killed in the middle of the pass
HANG = 3  # the pass never ends
DEVICE_FAILS = 4  # what PyTorch raises when a CUDA context is lost
BREAKS = 5  # from now on every pass raises

LARGEST_BATCH = 8  # a batch with more pictures is out of memory


def picture(shade: int) -> bytes:
    """A picture of one colour."""
    return bytes([shade]) * 3072


class FaultyNet(nn.Module):
    """Scores by the mean colour; the faults are those of this module."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(3, 10)
        shades = torch.tensor([[shade] * 3072 for shade in range(BREAKS + 1)], dtype=torch.uint8)
        self._shades = normalize(shades.reshape(-1, 32, 32, 3), dtype=torch.float32).mean(dim=(2, 3))
        self._broken = False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """See `models.registry.build`."""
        colours = inputs.float().mean(dim=(2, 3))
        for shade in range(POISON, BREAKS + 1):
            if bool((colours - self._shades[shade]).abs().amax(dim=1).lt(1e-4).any()):
                self._fail(shade)
        if self._broken:
            raise RuntimeError("every pass fails")
        logits: torch.Tensor = self.scores(colours.to(self.scores.weight.dtype))
        return logits

    def _fail(self, shade: int) -> None:
        if shade == POISON:
            raise RuntimeError("secret: a picture that the model cannot take")
        if shade == CRASH:
            os.kill(os.getpid(), signal.SIGKILL)
        if shade == HANG:
            threading.Event().wait()
        if shade == DEVICE_FAILS:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        self._broken = True


class SmallMemoryNet(FaultyNet):
    """Does not have the memory for large batches; warms up with those that fit."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """See `models.registry.build`."""
        if len(inputs) > LARGEST_BATCH and bool((inputs != inputs[0]).any()):  # a warm-up's are all the same
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(inputs)


NETWORKS = {"faulty": FaultyNet, "small_memory": SmallMemoryNet}


def register() -> None:
    """Let this process, and those that it forks, build the networks."""
    registry._ARCHITECTURES.update(NETWORKS)


def publish_faulty(repository: Path) -> Path:
    """Publish both networks and return the repository."""
    with pytest.MonkeyPatch.context() as patch:
        for name, network in NETWORKS.items():
            patch.setitem(registry._ARCHITECTURES, name, network)
            publish(repository, name, architecture=name)
    return repository
