"""Random changes to training pictures, a whole epoch at a time, on the device where the pictures are."""

import math

import torch
from torch.nn import functional

from training.recipes import Augmentation

_ROTATED_AT_ONCE = 2000


def augment(
    images: torch.Tensor, augmentation: Augmentation, *, seed: int, epoch: int, generator: torch.Generator
) -> torch.Tensor:
    """Return changed copies of `images`: uint8 (n, 32, 32, 3) in and out.

    `seed` fixes which half of the pictures is mirrored in even epochs; `generator` draws the rest.
    """
    if augmentation.translate_px:
        images = _translate(images, augmentation.translate_px, generator)
    if augmentation.rotate_degrees:
        images = _rotate(images, augmentation.rotate_degrees, generator)
    if augmentation.flip:
        images = _flip_alternately(images, seed=seed, epoch=epoch)
    if augmentation.cutout_px:
        images = _cutout(images, augmentation.cutout_px, generator)
    return images


def _flip_alternately(images: torch.Tensor, *, seed: int, epoch: int) -> torch.Tensor:
    """Mirror one fixed half in even epochs and the other in odd ones (arXiv:2404.00498, section 3.6).

    Every pair of epochs then shows each picture both ways, where coin tosses repeat half of them.
    """
    coin = torch.Generator(images.device).manual_seed(seed)
    half = torch.randint(2, (len(images),), generator=coin, device=images.device)
    mirrored = (half + epoch) % 2 == 1
    return torch.where(mirrored[:, None, None, None], images.flip(2), images)


def _translate(images: torch.Tensor, limit: int, generator: torch.Generator) -> torch.Tensor:
    count, height, width, _ = images.shape
    padded = functional.pad(images.permute(0, 3, 1, 2), (limit,) * 4, mode="reflect").permute(0, 2, 3, 1)
    shifts = torch.randint(2 * limit + 1, (count, 2), generator=generator, device=images.device)
    shifted = torch.empty_like(images)
    for down in range(2 * limit + 1):
        for right in range(2 * limit + 1):  # one copy for all pictures that share a shift
            chosen = ((shifts[:, 0] == down) & (shifts[:, 1] == right)).nonzero().squeeze(1)
            shifted[chosen] = padded[chosen, down : down + height, right : right + width]
    return shifted


def _rotate(images: torch.Tensor, limit_degrees: float, generator: torch.Generator) -> torch.Tensor:
    angles = torch.rand(len(images), generator=generator, device=images.device).mul_(2).sub_(1)
    angles *= math.radians(limit_degrees)
    still = torch.zeros_like(angles)
    turns = torch.stack([angles.cos(), -angles.sin(), still, angles.sin(), angles.cos(), still], dim=1).view(-1, 2, 3)
    rotated = torch.empty_like(images)
    for start in range(0, len(images), _ROTATED_AT_ONCE):  # in pieces, because each pixel needs two coordinates
        piece = images[start : start + _ROTATED_AT_ONCE].permute(0, 3, 1, 2).float()
        grid = functional.affine_grid(turns[start : start + _ROTATED_AT_ONCE], list(piece.shape), align_corners=False)
        turned = functional.grid_sample(piece, grid, padding_mode="reflection", align_corners=False)
        rotated[start : start + _ROTATED_AT_ONCE] = turned.round_().permute(0, 2, 3, 1).to(images.dtype)
    return rotated


def _cutout(images: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    count, height, width, _ = images.shape
    device = images.device
    top = torch.randint(height, (count, 1), generator=generator, device=device) - side // 2
    left = torch.randint(width, (count, 1), generator=generator, device=device) - side // 2
    rows = torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    in_rows = (rows >= top) & (rows < top + side)
    in_columns = (columns >= left) & (columns < left + side)
    hidden = in_rows[:, :, None] & in_columns[:, None, :]
    return images.masked_fill(hidden[..., None], 127)
