"""The running average of the weights, which is what a run with `--ema-decay` evaluates and publishes."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def build_average(network: nn.Module, decay: float) -> AveragedModel | None:
    """Return the average of `network`'s weights and statistics, or None where `decay` is 0.

    After each `update_parameters(network)` it is `decay` times itself plus (1 - decay) times the network; it
    stands for about 1 / (1 - decay) steps.
    """
    if not decay:
        return None
    step = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=step, use_buffers=True)
