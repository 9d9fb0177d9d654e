"""The learning rate as a function of the step: pure arithmetic."""


def lr_schedule(step: int, *, steps: int, peak: float, warmup_fraction: float) -> float:
    """Return the learning rate of `step` (0 to `steps` - 1): a line up to `peak`, then a line down to almost 0.

    The triangle is the "1cycle" shape of L. N. Smith (arXiv:1708.07120) without its last phase.
    """
    warmup = max(1, round(steps * warmup_fraction))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (steps - step) / (steps - warmup + 1)
