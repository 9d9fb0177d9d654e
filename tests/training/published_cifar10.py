"""The published CIFAR-10 where this machine has it; a test that asks for it is skipped elsewhere."""

import functools
import os
import pickle
from pathlib import Path

import pytest
from torchvision.datasets import CIFAR10

from training.data import Cifar10, load_cifar10

_CHECKOUT = Path(__file__).parents[2]


def published_cifar10() -> Cifar10:
    """Return the data, 2,000 training pictures held back with seed 0; read once per test session."""
    return _load(_root())


def label_names() -> tuple[str, ...]:
    """Return the label names in the order of the published `batches.meta`."""
    meta = (_root() / CIFAR10.base_folder / "batches.meta").read_bytes()
    return tuple(pickle.loads(meta)["label_names"])  # noqa: S301 - its MD5 is checked where the pictures are read


def _root() -> Path:
    named = os.environ.get("CIFAR10_DATA")
    candidates = [_CHECKOUT / path for path in ([named] if named else []) + ["../shared/data", "data"]]
    for root in candidates:
        if (root / CIFAR10.base_folder).is_dir():
            return root
    pytest.skip(f"no {CIFAR10.base_folder} in {', '.join(map(str, candidates))}; name its folder in CIFAR10_DATA")


@functools.cache
def _load(root: Path) -> Cifar10:
    return load_cifar10(root, validation_images=2000, seed=0, download=False)
