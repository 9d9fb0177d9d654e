import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision.datasets import CIFAR10

from tests.training.tiny_cifar10 import fingerprints, write_tiny_cifar10


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors of a few pictures are computed faster by one thread than by several that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CIFARSERVE_TRAIN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def tiny_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a data set of 200 and 40 pictures that torchvision takes for the published one."""
    root = tmp_path / "data"
    write_tiny_cifar10(root)
    for attribute, value in fingerprints(root).items():
        monkeypatch.setattr(CIFAR10, attribute, value)
    return root
