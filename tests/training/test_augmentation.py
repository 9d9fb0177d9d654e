import pytest
import torch

from tests.models import pictures
from training.augmentation import augment
from training.recipes import Augmentation

UNCHANGED = Augmentation(flip=False, translate_px=0, cutout_px=0)
SEED = 7


def augmented(images: torch.Tensor, augmentation: Augmentation, *, epoch: int = 0) -> torch.Tensor:
    """Return `images` as they are in one epoch."""
    generator = torch.Generator().manual_seed(epoch)
    return augment(images, augmentation, seed=SEED, epoch=epoch, generator=generator)


def test_nothing_asked_nothing_done() -> None:
    """Without flips, shifts and cutout the pictures are left alone."""
    images = pictures.noise(20)

    assert torch.equal(augmented(images, UNCHANGED), images)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(flip=True, translate_px=0, cutout_px=0),
        Augmentation(flip=False, translate_px=4, cutout_px=0),
        Augmentation(flip=False, translate_px=0, cutout_px=8),
        Augmentation(flip=True, translate_px=4, cutout_px=8),
    ],
)
def test_everything_is_done_to_a_copy(augmentation: Augmentation) -> None:
    """The pictures themselves stay as they are for the next epoch, and the result has their type and shape."""
    images = pictures.noise(50)
    before = images.clone()

    changed = augmented(images, augmentation)

    assert torch.equal(images, before)
    assert (changed.dtype, changed.shape) == (images.dtype, images.shape)
    assert not torch.equal(changed, images)


@pytest.mark.parametrize("epoch", [0, 1, 6])
def test_two_epochs_show_each_picture_both_ways(epoch: int) -> None:
    """Each picture is mirrored in exactly one of two successive epochs, about half of them in each."""
    images = pictures.noise(200)
    flip = Augmentation(flip=True, translate_px=0, cutout_px=0)

    mirrored = [
        (augmented(images, flip, epoch=number) == images.flip(2)).all(dim=(1, 2, 3)) for number in (epoch, epoch + 1)
    ]

    assert torch.equal(mirrored[0], ~mirrored[1])
    assert 60 < mirrored[0].sum() < 140


def test_flip_is_left_to_right() -> None:
    """A picture that is not mirrored is unchanged; a mirrored one has its first column last, rows in place."""
    images = pictures.noise(50)

    changed = augmented(images, Augmentation(flip=True, translate_px=0, cutout_px=0))

    for image, result in zip(images, changed, strict=True):
        assert torch.equal(result, image) or torch.equal(result[:, 0], image[:, -1])


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_translation_is_bounded_and_complete(limit: int) -> None:
    """Pictures move by every whole number of pixels up to the limit, each way, and never farther."""
    images = torch.zeros(1500, 32, 32, 3, dtype=torch.uint8)
    images[:, 16, 16] = 255

    moved = augmented(images, Augmentation(flip=False, translate_px=limit, cutout_px=0))

    picture, row, column = moved[..., 0].nonzero(as_tuple=True)
    shifts = set(zip((row - 16).tolist(), (column - 16).tolist(), strict=True))
    assert torch.equal(picture, torch.arange(len(images)))
    assert shifts == {(down, right) for down in range(-limit, limit + 1) for right in range(-limit, limit + 1)}


def test_translation_mirrors_the_edge() -> None:
    """What comes in from outside is the picture's own edge, so no black border gives the shift away."""
    images = torch.randint(1, 256, (100, 32, 32, 3), dtype=torch.uint8)

    moved = augmented(images, Augmentation(flip=False, translate_px=16, cutout_px=0))

    assert moved.min() > 0


@pytest.mark.parametrize("side", [1, 4, 8])
def test_cutout_hides_one_square(side: int) -> None:
    """One square of grey is painted, whole or cut by the edge: at most side² pixels, the rest is untouched."""
    images = torch.full((1000, 32, 32, 3), 255, dtype=torch.uint8)

    changed = augmented(images, Augmentation(flip=False, translate_px=0, cutout_px=side))

    hidden = (changed != 255).any(dim=3)
    height, width = hidden.any(dim=2).sum(dim=1), hidden.any(dim=1).sum(dim=1)
    assert set(changed.flatten().tolist()) == {127, 255}
    assert torch.equal(hidden.sum(dim=(1, 2)), height * width)
    assert height.max() == width.max() == side
    assert min(height.min(), width.min()) >= side // 2


def test_cutout_is_somewhere_else_in_each_picture() -> None:
    """The square reaches every pixel, corners too."""
    images = torch.full((3000, 32, 32, 3), 255, dtype=torch.uint8)

    changed = augmented(images, Augmentation(flip=False, translate_px=0, cutout_px=8))

    assert (changed == 127).any(dim=(0, 3)).all()


def test_generator_decides() -> None:
    """The same generator state gives the same pictures, another one gives others."""
    images = pictures.noise(30)

    first, again, other = (augmented(images, Augmentation(), epoch=epoch) for epoch in (2, 2, 4))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rotation_turns_about_the_middle() -> None:
    """Pictures turn by up to the given angle, each its own way; the middle stays and grey stays grey."""
    images = torch.zeros(64, 32, 32, 3, dtype=torch.uint8)
    images[:, 15:17, 24:28] = 255  # a bar to the right of the middle, at angle 0
    turned = augment(
        images,
        Augmentation(flip=False, translate_px=0, rotate_degrees=30, cutout_px=0),
        seed=0,
        epoch=0,
        generator=torch.Generator().manual_seed(0),
    )
    bright = turned[..., 0].float()
    rows = (bright * torch.arange(32)[:, None]).sum(dim=(1, 2)) / bright.sum(dim=(1, 2)) - 15.5
    columns = (bright * torch.arange(32)).sum(dim=(1, 2)) / bright.sum(dim=(1, 2)) - 15.5
    angles = torch.rad2deg(torch.atan2(rows, columns))

    assert turned.dtype == torch.uint8
    assert angles.abs().max() <= 31
    assert angles.max() > 20
    assert angles.min() < -20
