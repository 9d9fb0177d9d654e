"""Convolutions whose weight gradient is fast on a CPU in bf16.

oneDNN's weight gradient of a 3x3 convolution over a small map takes several times as long as the matrix products
that it consists of (on the machine of docs/training.md 33 ms against 7 ms for 250 maps of 256x3x3, 45 against 28 for
256x7x7). Here it is those nine products, one for each place of the kernel.
"""

import torch
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import grad

_LARGEST_MAP_PX = 8
_FEWEST_CHANNELS = 128


def speed_up_convolutions(network: nn.Module) -> None:
    """Give the convolutions of `network` that profit the fast weight gradient, in place; names and weights stay."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _profits(child):
                fast = _FastConv2d(child.in_channels, child.out_channels, 3, padding=1, bias=False, device="meta")
                fast.weight = child.weight
                module.register_module(name, fast)


def _profits(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == (3, 3)
        and (convolution.stride, convolution.padding, convolution.dilation) == ((1, 1),) * 3
        and convolution.groups == 1
        and convolution.bias is None
        and min(convolution.in_channels, convolution.out_channels) >= _FEWEST_CHANNELS
    )


class _FastConv2d(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - Conv2d's name
        small = max(input.shape[2:]) <= _LARGEST_MAP_PX
        if not (self.training and small and input.dtype == torch.bfloat16 and input.device.type == "cpu"):
            return super().forward(input)
        output: torch.Tensor = _Convolution.apply(input, self.weight.to(input.dtype))
        return output


class _Convolution(torch.autograd.Function):
    """A 3x3 convolution, stride and padding 1, without bias; channels last."""

    @staticmethod
    def forward(ctx: FunctionCtx, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        return nn.functional.conv2d(inputs, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        to_inputs = grad.conv2d_input(  # type: ignore[no-untyped-call]
            inputs.shape, weight, gradient, padding=1
        )
        return to_inputs, weight_gradient(inputs, gradient)


def weight_gradient(inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the weight of a 3x3 convolution with padding 1.

    All pictures lie one after another in a grid with one empty row and column behind each, so that a step to a
    neighbour is a shift of the whole grid, and the gradient at each place of the kernel one matrix product.

    Args:
        inputs: (n, in, height, width).
        gradient: of the output, (n, out, height, width).

    Returns:
        (out, in, 3, 3) in the dtype of `inputs`.
    """
    images, in_channels, height, width = inputs.shape
    out_channels = gradient.shape[1]
    rows, columns = height + 1, width + 1
    places = images * rows * columns
    # the kernel's upper left neighbour of the first pixel lies one row and one column before it
    padded = inputs.new_zeros(places + 2 * (columns + 1), in_channels)
    grid = padded[columns + 1 : columns + 1 + places].view(images, rows, columns, in_channels)
    grid[:, :height, :width] = inputs.permute(0, 2, 3, 1)
    outputs = gradient.new_zeros(images, rows, columns, out_channels)
    outputs[:, :height, :width] = gradient.permute(0, 2, 3, 1)
    transposed = outputs.view(places, out_channels).t()
    result = inputs.new_empty(3, 3, out_channels, in_channels)
    for down in range(3):
        for right in range(3):
            start = down * columns + right
            torch.mm(transposed, padded[start : start + places], out=result[down, right])
    return result.permute(2, 3, 0, 1)
