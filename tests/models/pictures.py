"""Random pictures: uint8 (n, 32, 32, 3), the same ones for the same seed."""

import torch


def noise(count: int, *, seed: int = 0) -> torch.Tensor:
    """Return pictures whose pixels know nothing of each other."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)


def smooth(count: int, *, seed: int = 0) -> torch.Tensor:
    """Return pictures whose neighbouring pixels and channels resemble each other, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    shades = 60 * torch.randn((count, 1, 6, 6), generator=generator) + 120
    colours = 20 * torch.randn((count, 3, 6, 6), generator=generator)
    large = torch.nn.functional.interpolate(shades + colours, size=32, mode="bicubic", align_corners=False)
    grain = 10 * torch.randn(large.shape, generator=generator)
    return (large + grain).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
