"""CIFAR-10 as tensors: read once through torchvision, split, and drawn in shuffled batches.

The whole set is one uint8 tensor (184 MB), so that an epoch is indexing, not file reading.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10

from models.labels import LABELS
from models.preprocessing import normalize
from training.augmentation import augment
from training.errors import DataMissing
from training.recipes import Augmentation


@dataclass(frozen=True)
class Split:
    """Pictures uint8 (n, 32, 32, 3), labels int64 (n,), on one device."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        """Return the split on `device`."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Cifar10:
    """The training file cut in two, the test file, and the digest of both files' content."""

    train: Split
    validation: Split
    test: Split
    digest: str

    def to(self, device: torch.device) -> "Cifar10":
        """Return the data on `device`."""
        return Cifar10(self.train.to(device), self.validation.to(device), self.test.to(device), self.digest)


def load_cifar10(root: Path, *, validation_images: int, seed: int, download: bool) -> Cifar10:
    """Read the data set under `root`; every file's MD5 is checked by torchvision.

    Args:
        root: the folder that holds `cifar-10-batches-py`.
        validation_images: how many training pictures to hold back, the same number of each class.
        seed: decides which ones.
        download: fetch the files when they are missing.

    Raises:
        DataMissing: the files are not there, cannot be read, or are not the published ones.
    """
    train_file = _read(root, train=True, download=download)
    test = _read(root, train=False, download=download)
    validation, train = _hold_back(train_file, validation_images, seed)
    return Cifar10(train, validation, test, _digest(train_file, test))


class EpochLoader:
    """Iterate once for the rest of one epoch of augmented, normalized, shuffled batches; the last short one is dropped.

    Yields (inputs, labels): inputs `dtype` (batch_size, 3, 32, 32) channels last, labels int64.
    Everything random is drawn from (seed, epoch), so an epoch can be repeated alone, or from its `step` on.
    Of several processes, each gets its `share` (number, how many) of every batch.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        dtype: torch.dtype,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._split = split
        self.batch_size = batch_size
        self._augmentation = augmentation
        self._seed = seed
        self._dtype = dtype
        self._share = share
        self.epoch = 0
        self.step = 0

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self._split) // self.batch_size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        device = self._split.images.device
        generator = torch.Generator(device).manual_seed(self._seed * 1_000_003 + self.epoch)
        images = augment(self._split.images, self._augmentation, seed=self._seed, epoch=self.epoch, generator=generator)
        order = torch.randperm(len(self._split), generator=generator, device=device)
        number, count = self._share
        for start in range(self.step * self.batch_size, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size][number::count]
            yield normalize(images[chosen], dtype=self._dtype), self._split.labels[chosen]


def _read(root: Path, *, train: bool, download: bool) -> Split:
    # torchvision checks the MD5 of all files; without the check first, a missing folder would
    # give a message that names no path.
    folder = root / CIFAR10.base_folder
    try:
        if not download:
            next(folder.iterdir(), None)
        dataset = CIFAR10(root=str(root), train=train, download=download)
    except (OSError, RuntimeError) as exc:
        reason = (exc.strerror or exc) if isinstance(exc, OSError) else "a file is missing or its MD5 differs"
        raise DataMissing(
            f"CIFAR-10 in {folder}: {reason}; expected the seven published files, or --download to fetch them"
        ) from exc
    if tuple(dataset.classes) != LABELS:
        raise DataMissing(f"CIFAR-10 in {folder}: expected the classes {', '.join(LABELS)}")
    # torchvision's array is a view of colour planes; batches are channels last only if the memory is.
    return Split(torch.from_numpy(dataset.data).contiguous(), torch.tensor(dataset.targets))


def _hold_back(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    """Cut off `count` pictures, the same number of each class; return (held back, the rest)."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    per_label = count // len(LABELS)
    held = torch.cat([order[split.labels[order] == label][:per_label] for label in range(len(LABELS))])
    mask = torch.zeros(len(split), dtype=torch.bool)
    mask[held] = True
    return Split(split.images[mask], split.labels[mask]), Split(split.images[~mask], split.labels[~mask])


def _digest(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.numpy().tobytes())
        digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()
