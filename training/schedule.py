"""The learning rate as a function of the step: pure arithmetic."""

import math
from typing import Literal


def lr_schedule(
    step: int,
    *,
    steps: int,
    peak: float,
    warmup_fraction: float,
    shape: Literal["triangle", "cosine", "constant"] = "triangle",
) -> float:
    """Return the learning rate of `step` (0 to `steps` - 1): a line up to `peak`, then what `shape` says.

    `triangle` is a line down to almost 0: the "1cycle" shape of L. N. Smith (arXiv:1708.07120) without its last
    phase. `cosine` falls to almost 0 along half a wave (arXiv:1608.03983). `constant` stays.
    """
    # The rate that would be exactly 0 is the one after the last step.
    warmup = max(0 if shape == "constant" else 1, round(steps * warmup_fraction))
    if step < warmup:
        return peak * (step + 1) / warmup
    left = (steps - step) / (steps - warmup + 1)
    match shape:
        case "triangle":
            return peak * left
        case "cosine":
            return peak * (1 - math.cos(math.pi * left)) / 2
        case "constant":
            return peak
