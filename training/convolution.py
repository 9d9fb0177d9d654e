"""Convolutions that train faster on a CPU in bf16.

oneDNN computes a 3x3 convolution over a small map several times slower than the matrix products that it consists of.
On the machine of docs/training.md, 64 maps of 512 channels, forward and both gradients: 59 ms against 7 for 2x2
pixels, 69 against 22 for 4x4. Of larger maps only the weight gradient is slow: 14 ms against 9 for 64 maps of 256x8x8.
"""

import torch
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional, grad

_LARGEST_UNFOLDED_PX = 4
_LARGEST_SHIFTED_PX = 8
_FEWEST_CHANNELS = 128


def speed_up_convolutions(network: nn.Module) -> None:
    """Give the convolutions of `network` that profit a faster way to train, in place; names and weights stay."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _profits(child):
                module.register_module(name, _like(child))


def _profits(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == (3, 3)
        and convolution.stride in ((1, 1), (2, 2))
        and (convolution.padding, convolution.dilation) == ((1, 1),) * 2
        and convolution.padding_mode == "zeros"
        and convolution.groups == 1
        and min(convolution.in_channels, convolution.out_channels) >= _FEWEST_CHANNELS
    )


def _like(convolution: nn.Conv2d) -> nn.Conv2d:
    fast = _FastConv2d(
        convolution.in_channels,
        convolution.out_channels,
        kernel_size=3,
        stride=convolution.stride,  # type: ignore[arg-type]
        padding=1,
        bias=convolution.bias is not None,
        device="meta",
    )
    fast.weight, fast.bias = convolution.weight, convolution.bias
    return fast


class _FastConv2d(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - Conv2d's name
        small = max(input.shape[2:]) <= _LARGEST_SHIFTED_PX
        if not (self.training and small and input.dtype == torch.bfloat16 and input.device.type == "cpu"):
            return super().forward(input)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        output: torch.Tensor = _Convolution.apply(input, self.weight.to(input.dtype), bias, self.stride[0])
        return output


class _Convolution(torch.autograd.Function):
    """A 3x3 convolution with padding 1; channels last."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.has_bias, ctx.stride = bias is not None, stride  # type: ignore[attr-defined]
        if stride == 1 and _is_unfolded(inputs, stride):
            return _convolve(inputs, weight.permute(2, 3, 1, 0), bias)
        return functional.conv2d(inputs, weight, bias, stride=stride, padding=1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, None]:
        inputs, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        stride: int = ctx.stride  # type: ignore[attr-defined]
        to_bias = gradient.sum((0, 2, 3)) if ctx.has_bias else None  # type: ignore[attr-defined]
        if _is_unfolded(inputs, stride):
            to_weight = unfolded_weight_gradient(inputs, gradient, stride=stride)
        else:
            to_weight = shifted_weight_gradient(inputs, gradient)
        if stride == 1 and _is_unfolded(inputs, stride):
            # seen from an input, the kernel's places lie the other way round
            return _convolve(gradient, weight.permute(2, 3, 0, 1).flip(0, 1)), to_weight, to_bias, None
        to_inputs: torch.Tensor = grad.conv2d_input(  # type: ignore[no-untyped-call]
            inputs.shape, weight, gradient, stride=stride, padding=1
        )
        return to_inputs, to_weight, to_bias, None


def _is_unfolded(inputs: torch.Tensor, stride: int) -> bool:
    """Whether the copy of each pixel's nine neighbours is small beside the weights."""
    return max(inputs.shape[2:]) <= _LARGEST_UNFOLDED_PX * stride


def _convolve(inputs: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return (n, out, height, width), channels last, for inputs (n, in, height, width), kernel (3, 3, in, out)."""
    images, _, height, width = inputs.shape
    out_channels = kernel.shape[3]
    neighbours, matrix = _unfold(inputs, stride=1), kernel.reshape(-1, out_channels)
    outputs = neighbours @ matrix if bias is None else torch.addmm(bias, neighbours, matrix)
    return outputs.view(images, height, width, out_channels).permute(0, 3, 1, 2)


def unfolded_weight_gradient(inputs: torch.Tensor, gradient: torch.Tensor, *, stride: int) -> torch.Tensor:
    """Return the gradient of the weight of a 3x3 convolution with padding 1, as one matrix product.

    Args:
        inputs: (n, in, height, width).
        gradient: of the output, (n, out, height / stride, width / stride), rounded up.
        stride: of the convolution, 1 or 2.

    Returns:
        (out, in, 3, 3) in the dtype of `inputs`.
    """
    out_channels, in_channels = gradient.shape[1], inputs.shape[1]
    outputs = gradient.permute(0, 2, 3, 1).reshape(-1, out_channels)
    result = outputs.t() @ _unfold(inputs, stride=stride)
    return result.view(out_channels, 3, 3, in_channels).permute(0, 3, 1, 2)


def _unfold(inputs: torch.Tensor, *, stride: int) -> torch.Tensor:
    """Return one row for each pixel of the output, (n * height * width, 9 * in): its 3x3 neighbours, 0 outside."""
    images, channels, height, width = inputs.shape
    padded = inputs.new_zeros(images, height + 2, width + 2, channels)
    padded[:, 1:-1, 1:-1] = inputs.permute(0, 2, 3, 1)
    neighbours = padded.unfold(1, 3, stride).unfold(2, 3, stride)  # (n, height, width, in, 3, 3), nothing copied
    return neighbours.permute(0, 1, 2, 4, 5, 3).reshape(-1, 9 * channels)


def shifted_weight_gradient(inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the weight of a 3x3 convolution with stride and padding 1, as nine matrix products.

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
