"""A data set in the layout of the published CIFAR-10, with a few random pictures in each file.

Pictures of one label share a colour, so that a network learns to tell them apart in a few steps.
"""

import hashlib
import pickle
from pathlib import Path
from typing import TypedDict

import numpy as np
from torchvision.datasets import CIFAR10

from models.labels import LABELS

TRAIN_IMAGES = 200
TEST_IMAGES = 40
_TRAIN_FILES = [f"data_batch_{number}" for number in range(1, 6)]


class Fingerprints(TypedDict):
    """The class attributes of torchvision's `CIFAR10` that name the files and their MD5."""

    train_list: list[tuple[str, str]]
    test_list: list[tuple[str, str]]
    meta: dict[str, str]


def write_tiny_cifar10(root: Path) -> None:
    """Write the seven files under `root`: 200 training and 40 test pictures, the same number of each label."""
    generator = np.random.default_rng(0)
    colours = generator.integers(40, 216, (len(LABELS), 3, 1))
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    for name, count in [*((name, TRAIN_IMAGES // len(_TRAIN_FILES)) for name in _TRAIN_FILES), ("test_batch", 40)]:
        labels = [number % len(LABELS) for number in range(count)]
        planes = colours[labels] + generator.integers(-25, 26, (count, 3, 32 * 32))
        _write(folder / name, {"data": planes.astype(np.uint8).reshape(count, -1), "labels": labels})
    _write(folder / "batches.meta", {"label_names": list(LABELS)})


def fingerprints(root: Path) -> Fingerprints:
    """Return what torchvision has to expect to take the files under `root` for the published ones."""
    return {
        "train_list": [(name, _md5(root, name)) for name in _TRAIN_FILES],
        "test_list": [("test_batch", _md5(root, "test_batch"))],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": _md5(root, "batches.meta")},
    }


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_bytes(pickle.dumps(content))


def _md5(root: Path, name: str) -> str:
    content = (root / CIFAR10.base_folder / name).read_bytes()
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
