"""What happens to a picture between its bytes and the network: one home for shape, mean and std.

Training and serving both call `normalize`, so the two cannot drift apart. This module works on
tensors that it is given; importing it does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IMAGE_SIZE_PX = 32
CHANNELS = 3
IMAGE_SHAPE = (IMAGE_SIZE_PX, IMAGE_SIZE_PX, CHANNELS)  # height, width, RGB
IMAGE_BYTES = IMAGE_SIZE_PX * IMAGE_SIZE_PX * CHANNELS

# Per channel, over the 50,000 training images scaled to 0..1; `tests/models` recomputes them
# from the data. (The 0.2023, 0.1994, 0.2010 often seen are means of per-image deviations.)
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def normalize(images: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    """Turn uint8 pictures into network input.

    Args:
        images: uint8, shape (batch, 32, 32, 3), values 0..255, RGB.
        dtype: the floating type of the result.

    Returns:
        `dtype`, shape (batch, 3, 32, 32), zero mean and unit variance over the training set, on
        the device of `images`. Memory stays as it lies (channels last), nothing is transposed.
    """
    factor, offset = _factor_and_offset(images, dtype)
    # Whole pictures at a time: arithmetic over an innermost dimension of three colours is several times slower.
    flat = offset.addcmul(images.reshape(len(images), IMAGE_BYTES).to(dtype), factor)
    return flat.view(len(images), *IMAGE_SHAPE).permute(0, 3, 1, 2)


_constants: dict[tuple[torch.dtype, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}


def _factor_and_offset(images: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what to multiply by and then to add, for each of the 3072 values of a picture; made once."""
    key = (dtype, images.device)
    if key not in _constants:
        pixels = IMAGE_SIZE_PX * IMAGE_SIZE_PX
        factor = images.new_tensor([1 / (255 * std) for std in STD], dtype=dtype)
        offset = images.new_tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)], dtype=dtype)
        _constants[key] = (factor.repeat(pixels), offset.repeat(pixels))
    return _constants[key]
