"""The CIFAR-10 test file as plain bytes, for clients that have no torch."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

from benchmarks.running import ROOT


@dataclass(frozen=True)
class TestImages:
    """The 10,000 test pictures: 3072 bytes of HWC RGB each, and the names of their labels."""

    rgb: tuple[bytes, ...]
    labels: tuple[str, ...]


def find_cifar10() -> Path | None:
    """Return the folder `cifar-10-batches-py` under CIFAR10_DATA, ../shared/data or ./data, if there is one."""
    candidates = (os.environ.get("CIFAR10_DATA"), ROOT.parent / "shared/data", ROOT / "data")
    folders = (Path(root) / "cifar-10-batches-py" for root in candidates if root)
    return next((folder for folder in folders if (folder / "test_batch").exists()), None)


def read_test_images(folder: Path) -> TestImages:
    """Read the test file of the data set's python version, in its own order."""
    names = pickle.loads((folder / "batches.meta").read_bytes())["label_names"]
    content = pickle.loads((folder / "test_batch").read_bytes(), encoding="latin1")
    pixels = content["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return TestImages(
        rgb=tuple(picture.tobytes() for picture in pixels),
        labels=tuple(names[label] for label in content["labels"]),
    )
