"""A trained network made ready to serve: layers that are linear together merged, one floating type, one memory layout.

The same functions prepare the network that training assesses and the one that serving runs, so that
the card's figures are about what is served.

Layouts of the activations between two layers:
    channels_last: plain tensors, the channels of a pixel side by side; every network, every device.
    blocked: oneDNN's own (opaque tensors), weights packed once; CPUs, and networks whose operations all know it.
    compiled: channels_last, and what lies between two convolutions fused by TorchInductor, which needs a C++ compiler.
"""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from models.graph import normalized_convolutions

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

_PROBE_SHAPE = (2, 3, 32, 32)

Layer = TypeVar("Layer", bound=nn.Module)


def prepare(network: nn.Module, *, precision: str, layout: str) -> nn.Module:
    """Return a copy of `network` for inference: takes and gives plain tensors of `precision`, channels last."""
    folded = merge_linear_layers(fold_normalization(copy.deepcopy(network).eval()))
    if layout == "blocked":
        return _Blocked(folded, PRECISIONS[precision])
    _replace(folded, nn.MaxPool2d, _cheap_pool)
    plain = folded.to(PRECISIONS[precision]).to(memory_format=torch.channels_last)
    if layout == "compiled":
        plain.compile(dynamic=True)  # once for all batch sizes but 1
    return plain


@torch.inference_mode()
def layouts(network: nn.Module, device: torch.device) -> tuple[str, ...]:
    """Return the layouts that `network` can be computed in at once on `device`, the most promising first."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return ("channels_last",)
    try:
        prepare(network, precision="fp32", layout="blocked")(torch.zeros(_PROBE_SHAPE))
    except Exception:  # noqa: BLE001  # a network that meets a tensor or a layer that it does not know raises anything
        return ("channels_last",)
    return ("blocked", "channels_last")


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


@torch.no_grad()
def merge_linear_layers(network: nn.Module) -> nn.Module:
    """Make one linear layer of two that follow each other with nothing between, in place, where that is less work.

    The outputs stay the same but for rounding.
    """
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for place in range(1, len(module)):
            first, second = module[place - 1], module[place]
            if isinstance(first, nn.Linear) and isinstance(second, nn.Linear):
                merged = _product(first, second)
                if merged.weight.numel() < first.weight.numel() + second.weight.numel():
                    module[place - 1], module[place] = nn.Identity(), merged
    return network


def _product(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """Return the layer that does what `first` and then `second` do."""
    merged = nn.Linear(first.in_features, second.out_features)
    merged.weight.copy_(second.weight.double() @ first.weight.double())
    merged.bias.copy_(second(first(torch.zeros(first.in_features))))  # what both make of nothing
    return merged


class _Blocked(nn.Module):
    """A network between whose layers the activations stay in oneDNN's layout."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        """Take over `network`, which is changed."""
        super().__init__()
        _replace(network, nn.Conv2d, lambda convolution: _BlockedConvolution(convolution, dtype))
        # A product of matrices gains nothing from the layout, and loses where there are few pictures.
        _replace(network, nn.Linear, lambda linear: nn.Sequential(_Plain(), linear.to(dtype)))
        # Flattening an opaque tensor copies it, and then it is copied into a plain one.
        _replace(network, nn.Flatten, lambda flatten: nn.Sequential(_Plain(), flatten))
        self.network = network
        self.plain = _Plain()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.plain(self.network(inputs))
        return outputs


class _BlockedConvolution(nn.Module):
    """A convolution that gives opaque tensors; its weights are packed once instead of in every pass."""

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        if isinstance(convolution.padding, str) or convolution.padding_mode != "zeros":
            raise ValueError(f"expected padding by a number of zeros, got {convolution.padding!r}")
        self._geometry = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        weight = convolution.weight.detach().float().contiguous().to_mkldnn(dtype)
        self._weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(weight, *self._geometry)
        # oneDNN adds a bias of fp32 to its sums of fp32 before it rounds them.
        self._bias = None if convolution.bias is None else convolution.bias.detach().float().to_mkldnn()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        opaque = inputs if inputs.is_mkldnn else inputs.to_mkldnn()
        return torch.mkldnn_convolution(opaque, self._weight, self._bias, *self._geometry)


class _Plain(nn.Module):
    """Opaque tensors become plain ones; plain ones pass."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.to_dense() if inputs.is_mkldnn else inputs


class _Halve(nn.Module):
    """MaxPool2d(2) by two comparisons of whole rows: up to twice as fast, as no position of a maximum is kept."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        height, width = (size // 2 * 2 for size in inputs.shape[2:])
        rows = torch.maximum(inputs[:, :, 0:height:2], inputs[:, :, 1:height:2])
        return torch.maximum(rows[:, :, :, 0:width:2], rows[:, :, :, 1:width:2])


def _replace(network: nn.Module, kind: type[Layer], make: Callable[[Layer], nn.Module]) -> None:
    """Put what `make` returns in the place of every layer of `kind`, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                module.register_module(name, make(child))


def _cheap_pool(pool: nn.MaxPool2d) -> nn.Module:
    return _Halve() if (pool.kernel_size, pool.stride, pool.padding) == (2, 2, 0) else pool


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    folded = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
    convolution.weight, convolution.bias = folded.weight, folded.bias
