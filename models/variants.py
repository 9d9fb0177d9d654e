"""A trained network made ready to serve: batch normalization folded away, in one floating type, channels last.

The same functions prepare the network that training assesses and the one that serving runs, so that
the card's figures are about what is served.
"""

import copy

import torch
from torch import nn

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def prepare(network: nn.Module, *, precision: str) -> nn.Module:
    """Return a copy of `network` for inference: takes and computes `precision`, channels last."""
    prepared = fold_normalization(copy.deepcopy(network).eval())
    return prepared.to(PRECISIONS[precision]).to(memory_format=torch.channels_last)


@torch.no_grad()
def fold_normalization(network: nn.Module) -> nn.Module:
    """Fold each BatchNorm2d into the convolution before it, in place; the outputs stay the same.

    In a Sequential, conv-norm pairs are folded, and conv-pool-norm triples where the normalization's
    scale is positive, because then it commutes with max-pooling.
    """
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for place, norm in enumerate(module):
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            before = list(module)[:place]
            if before and isinstance(before[-1], nn.MaxPool2d) and bool((norm.weight > 0).all()):
                before.pop()
            if before and isinstance(before[-1], nn.Conv2d):
                _fold(before[-1], norm)
                module[place] = nn.Identity()
    return network


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    folded = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
    convolution.weight, convolution.bias = folded.weight, folded.bias
