import subprocess
import sys

import pytest
import torch

from models.labels import LABELS
from models.preprocessing import IMAGE_BYTES, IMAGE_SHAPE, MEAN, STD, normalize
from tests.models import pictures
from tests.training.published_cifar10 import label_names, published_cifar10


def test_mean_and_std_are_those_of_the_training_pictures() -> None:
    """MEAN and STD are what the 50,000 published training pictures say, to the printed digits."""
    data = published_cifar10()
    images = torch.cat([data.train.images, data.validation.images])

    counts = torch.stack([torch.bincount(images[..., channel].flatten(), minlength=256) for channel in range(3)])
    shares = counts.double() / (len(images) * 32 * 32)
    values = torch.arange(256) / 255
    mean = shares @ values.double()
    std = (shares @ values.double().square() - mean.square()).sqrt()

    assert len(images) == 50_000
    assert mean.tolist() == pytest.approx(MEAN, abs=5e-4)
    assert std.tolist() == pytest.approx(STD, abs=5e-4)


def test_labels_are_in_the_order_of_the_data_set() -> None:
    """Label number n means the n-th name in the published `batches.meta`."""
    assert label_names() == LABELS


def test_shape_and_bytes_agree() -> None:
    """A picture's byte count is the product of its shape."""
    assert IMAGE_SHAPE == (32, 32, 3)
    assert IMAGE_BYTES == 3072


def test_normalize_centres_and_scales() -> None:
    """Each pixel becomes (value / 255 - mean) / std of its own channel."""
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    image[0, 5, 7] = torch.tensor([255, 51, 0])

    pixel = normalize(image, dtype=torch.float32)[0, :, 5, 7]

    expected = [(value - mean) / std for value, mean, std in zip((1.0, 0.2, 0.0), MEAN, STD, strict=True)]
    assert pixel.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_normalize_keeps_the_memory_as_it_lies(dtype: torch.dtype) -> None:
    """The result has the asked type and the network's shape, channels last, without a transposition."""
    inputs = normalize(pictures.noise(4), dtype=dtype)

    assert inputs.dtype == dtype
    assert inputs.shape == (4, 3, 32, 32)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_normalize_leaves_its_argument_alone() -> None:
    """The pictures can be used again, by the next epoch or the next batch."""
    images = pictures.noise(2)
    before = images.clone()

    normalize(images, dtype=torch.float32)

    assert torch.equal(images, before)


def test_normalize_treats_each_picture_alone() -> None:
    """A picture in a batch becomes exactly what it becomes by itself: no skew between training and serving."""
    images = pictures.noise(8)

    together = normalize(images, dtype=torch.float32)
    alone = torch.cat([normalize(image[None], dtype=torch.float32) for image in images])

    assert torch.equal(together, alone)


@pytest.mark.parametrize("module", ["models.preprocessing", "models.verification", "models.repository"])
def test_light_modules_do_not_import_torch(module: str) -> None:
    """The server's quick checks before it starts need no torch, which takes seconds to import."""
    code = f"import sys, {module}; print('torch' in sys.modules)"

    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert finished.stdout == "False\n"
