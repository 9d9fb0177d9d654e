import urllib.error
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torchvision.datasets import CIFAR10

from models.labels import LABELS
from models.preprocessing import normalize
from tests.models import pictures
from tests.training.published_cifar10 import published_cifar10
from tests.training.tiny_cifar10 import TEST_IMAGES, TRAIN_IMAGES
from training.data import Cifar10, EpochLoader, Split, load_cifar10
from training.errors import DataMissing
from training.recipes import Augmentation

UNCHANGED = Augmentation(flip=False, translate_px=0, cutout_px=0)
Batches = Sequence[tuple[torch.Tensor, torch.Tensor]]


def load(root: Path, *, validation_images: int = 50, seed: int = 0) -> Cifar10:
    return load_cifar10(root, validation_images=validation_images, seed=seed, download=False)


def numbered(count: int) -> Split:
    """Return pictures with labels that tell them apart: 0, 1, 2 and so on."""
    return Split(pictures.noise(count), torch.arange(count))


def loader(split: Split, *, batch_size: int = 10, augmentation: Augmentation = UNCHANGED, seed: int = 0) -> EpochLoader:
    return EpochLoader(split, batch_size=batch_size, augmentation=augmentation, seed=seed, dtype=torch.float32)


def epoch_of(batches: EpochLoader, *, epoch: int) -> Batches:
    batches.epoch = epoch
    return list(batches)


def same(one: Batches, other: Batches) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in pairs)


def per_label(split: Split) -> list[int]:
    return torch.bincount(split.labels, minlength=len(LABELS)).tolist()


def test_published_data_is_split_evenly() -> None:
    """Of the 50,000 training pictures 2,000 are held back, 200 of each class; the 10,000 test pictures stay whole."""
    data = published_cifar10()

    assert per_label(data.train) == [4800] * 10
    assert per_label(data.validation) == [200] * 10
    assert per_label(data.test) == [1000] * 10


def test_pictures_lie_as_the_network_reads_them(tiny_cifar10: Path) -> None:
    """Pictures are uint8 (n, 32, 32, 3) without gaps in memory, so that batches come out channels last."""
    data = load(tiny_cifar10)

    for split in (data.train, data.validation, data.test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape == (len(split), 32, 32, 3)
        assert split.images.is_contiguous()
        assert split.labels.dtype == torch.int64


def test_held_back_pictures_are_not_trained_on(tiny_cifar10: Path) -> None:
    """Training and validation pictures share none and are together the training file."""
    data = load(tiny_cifar10, validation_images=50)
    train, validation = ({image.numpy().tobytes() for image in split.images} for split in (data.train, data.validation))

    assert per_label(data.validation) == [5] * 10
    assert len(data.test) == TEST_IMAGES
    assert not train & validation
    assert len(train | validation) == TRAIN_IMAGES


def test_seed_decides_what_is_held_back(tiny_cifar10: Path) -> None:
    """The same seed holds back the same pictures, another one others; the data's digest is the same for all."""
    first, again, other = (load(tiny_cifar10, seed=seed) for seed in (1, 1, 2))

    assert torch.equal(first.validation.images, again.validation.images)
    assert not torch.equal(first.validation.images, other.validation.images)
    assert first.digest == again.digest == other.digest


def test_odd_number_to_hold_back_is_rounded_down(tiny_cifar10: Path) -> None:
    """Every class keeps the same number of validation pictures."""
    data = load(tiny_cifar10, validation_images=57)

    assert per_label(data.validation) == [5] * 10
    assert len(data.train) == TRAIN_IMAGES - 50


def test_missing_folder(tmp_path: Path) -> None:
    """Without the data the message says where it was looked for and what to do."""
    with pytest.raises(DataMissing) as caught:
        load(tmp_path)

    assert str(caught.value) == (
        f"CIFAR-10 in {tmp_path}/cifar-10-batches-py: No such file or directory; "
        "expected the seven published files, or --download to fetch them"
    )


def test_empty_folder(tmp_path: Path) -> None:
    """A folder without files is reported like one with the wrong files."""
    (tmp_path / CIFAR10.base_folder).mkdir()

    with pytest.raises(DataMissing, match="a file is missing or its MD5 differs"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_missing_file(tiny_cifar10: Path, name: str) -> None:
    """Each of the files is needed."""
    (tiny_cifar10 / CIFAR10.base_folder / name).unlink()

    with pytest.raises(DataMissing, match="a file is missing or its MD5 differs"):
        load(tiny_cifar10)


def test_damaged_file(tiny_cifar10: Path) -> None:
    """One wrong byte anywhere in a file is noticed before it is read."""
    path = tiny_cifar10 / CIFAR10.base_folder / "data_batch_5"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataMissing, match="a file is missing or its MD5 differs"):
        load(tiny_cifar10)


def test_other_classes(tiny_cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set with other labels is refused, whatever its checksums say."""
    monkeypatch.setattr("training.data.LABELS", (*LABELS[:9], "lorry"))

    with pytest.raises(DataMissing, match=r"expected the classes airplane, .*, lorry"):
        load(tiny_cifar10)


def test_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that does not get through is reported with the network's reason."""

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(CIFAR10, "download", unreachable)

    with pytest.raises(DataMissing, match="no route to host"):
        load_cifar10(tmp_path, validation_images=50, seed=0, download=True)


def test_data_moves_as_one(tiny_cifar10: Path) -> None:
    """All splits end up on the device that is named; the digest stays."""
    data = load(tiny_cifar10)

    moved = data.to(torch.device("meta"))

    assert {split.images.device.type for split in (moved.train, moved.validation, moved.test)} == {"meta"}
    assert moved.digest == data.digest


def test_epoch_shows_every_picture_once() -> None:
    """An epoch is a permutation in batches of the same size; a last short batch is dropped."""
    batches = epoch_of(loader(numbered(35), batch_size=10), epoch=0)

    shown = torch.cat([labels for _, labels in batches]).tolist()
    assert [len(labels) for _, labels in batches] == [10, 10, 10]
    assert len(loader(numbered(35), batch_size=10)) == 3
    assert len(set(shown)) == 30
    assert shown != sorted(shown)


def test_pictures_keep_their_labels() -> None:
    """Shuffling moves a picture and its label together, and normalizes it as serving does."""
    split = numbered(40)

    for inputs, labels in epoch_of(loader(split), epoch=3):
        assert torch.equal(inputs, normalize(split.images[labels], dtype=torch.float32))


@pytest.mark.parametrize("augmentation", [UNCHANGED, Augmentation()], ids=["plain", "augmented"])
def test_batches_are_channels_last(tiny_cifar10: Path, augmentation: Augmentation) -> None:
    """Inputs of real files arrive in the memory format that convolutions are fastest in."""
    inputs, _ = next(iter(loader(load(tiny_cifar10).train, augmentation=augmentation)))

    assert inputs.shape == (10, 3, 32, 32)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_epoch_can_be_repeated_alone() -> None:
    """The same seed and epoch give the same batches, in a fresh loader and after other epochs."""
    split = numbered(40)
    used = loader(split, augmentation=Augmentation(), seed=5)
    epoch_of(used, epoch=0)

    again = epoch_of(used, epoch=3)
    alone = epoch_of(loader(split, augmentation=Augmentation(), seed=5), epoch=3)

    assert same(again, alone)


@pytest.mark.parametrize(("seed", "epoch"), [(5, 4), (6, 3)])
def test_other_seeds_and_epochs_differ(seed: int, epoch: int) -> None:
    """Another epoch, or another seed, draws other batches."""
    split = numbered(40)

    first = epoch_of(loader(split, seed=5), epoch=3)
    other = epoch_of(loader(split, seed=seed), epoch=epoch)

    assert not same(first, other)


def test_two_epochs_of_the_loader_show_both_ways() -> None:
    """With flips, a picture comes once as it is and once mirrored in two successive epochs."""
    split = numbered(40)
    flipping = loader(split, augmentation=Augmentation(flip=True, translate_px=0, cutout_px=0))
    seen: dict[int, list[torch.Tensor]] = {}

    for epoch in (0, 1):
        for inputs, labels in epoch_of(flipping, epoch=epoch):
            for label, picture in zip(labels.tolist(), inputs, strict=True):
                seen.setdefault(label, []).append(picture)

    assert len(seen) == 40
    for first, second in seen.values():
        assert torch.equal(first, second.flip(2))
        assert not torch.equal(first, second)
