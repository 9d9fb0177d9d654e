"""A trained network made ready to serve: normalization folded, pools made cheap, one floating type, channels last.

The same functions prepare the network that training assesses and the one that serving runs, so that
the card's figures are about what is served.
"""

import copy

import torch
from torch import nn

from models.graph import normalized_convolutions

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def prepare(network: nn.Module, *, precision: str) -> nn.Module:
    """Return a copy of `network` for inference: takes and computes `precision`, channels last."""
    prepared = fold_normalization(copy.deepcopy(network).eval())
    _replace_pools(prepared)
    return prepared.to(PRECISIONS[precision]).to(memory_format=torch.channels_last)


@torch.no_grad()
def fold_normalization(network: nn.Module) -> nn.Module:
    """Fold each BatchNorm2d into the convolution before it, in place; the outputs stay the same.

    In a Sequential, conv-norm pairs are folded, and conv-pool-norm triples where the normalization's
    scale is positive, because then it commutes with max-pooling. Elsewhere the graph of the network
    says which convolution is whose.
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
    for convolution, norm, name in normalized_convolutions(network):
        _fold(convolution, norm)
        network.set_submodule(name, nn.Identity())
    return network


class _Halve(nn.Module):
    """MaxPool2d(2) by two comparisons of whole rows: up to twice as fast, as no position of a maximum is kept."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        height, width = (size // 2 * 2 for size in inputs.shape[2:])
        rows = torch.maximum(inputs[:, :, 0:height:2], inputs[:, :, 1:height:2])
        return torch.maximum(rows[:, :, :, 0:width:2], rows[:, :, :, 1:width:2])


def _replace_pools(network: nn.Module) -> None:
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d) and (child.kernel_size, child.stride, child.padding) == (2, 2, 0):
                module.register_module(name, _Halve())


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    folded = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
    convolution.weight, convolution.bias = folded.weight, folded.bias
