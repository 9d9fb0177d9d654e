import copy

import pytest
import torch
from torch import nn

from models import registry
from models.variants import prepare
from training.convolution import shifted_weight_gradient, speed_up_convolutions, unfolded_weight_gradient


@pytest.mark.parametrize(("height", "width"), [(7, 7), (3, 3), (1, 1), (4, 6)])
def test_shifted_weight_gradient_is_the_true_one(height: int, width: int) -> None:
    """The nine products are the gradient that PyTorch computes."""
    inputs, gradient, expected = _weight_gradient(height, width, stride=1)

    torch.testing.assert_close(shifted_weight_gradient(inputs, gradient), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(7, 7), (3, 3), (1, 1), (4, 6)])
def test_unfolded_weight_gradient_is_the_true_one(height: int, width: int, stride: int) -> None:
    """The one product is the gradient that PyTorch computes, for both strides."""
    inputs, gradient, expected = _weight_gradient(height, width, stride=stride)

    found = unfolded_weight_gradient(inputs, gradient, stride=stride)

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("px", "stride"), [(1, 1), (2, 1), (4, 1), (7, 1), (9, 1), (4, 2), (8, 2), (7, 2)])
def test_training_goes_the_same_way(px: int, stride: int, *, bias: bool) -> None:
    """With the fast convolutions, outputs and all gradients in bf16 are those of without, as far as bf16 tells."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(128, 160, 3, stride, padding=1, bias=bias)).to(memory_format=torch.channels_last)
    fast = copy.deepcopy(plain)
    speed_up_convolutions(fast)

    expected, found = _trained(plain, px), _trained(fast, px)

    assert type(fast[0]) is not type(plain[0])
    torch.testing.assert_close(found["outputs"], expected["outputs"], rtol=2e-2, atol=1e-2)
    for name in expected.keys() - {"outputs"}:
        # a few steps of bf16, whose sums are as large as the largest gradient
        step = 2**-6 * expected[name].abs().max().item()
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=step)


def test_network_stays_what_it_is() -> None:
    """Names and weights stay, the weights are the same objects, and in evaluation nothing is different."""
    network = registry.build("whitened").eval()
    inputs = torch.randn(2, 3, 32, 32)
    names, weights, outputs = list(network.state_dict()), list(network.parameters()), network(inputs)

    speed_up_convolutions(network)

    assert list(network.state_dict()) == names
    assert all(now is before for now, before in zip(network.parameters(), weights, strict=True))
    assert torch.equal(network.eval()(inputs), outputs)


def test_network_that_was_trained_so_can_be_served() -> None:
    """The normalizations of a network that is no chain of layers are found behind fast convolutions too."""
    network = registry.build("resnet18").eval()
    speed_up_convolutions(network)

    prepared = prepare(network, precision="fp32", layout="channels_last")

    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())


def _weight_gradient(height: int, width: int, *, stride: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return random inputs (3, 4, height, width), a gradient of their convolution, and PyTorch's for its weight."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 4, height, width, generator=generator)
    weight = torch.randn(5, 4, 3, 3, generator=generator, requires_grad=True)
    outputs = nn.functional.conv2d(inputs, weight, stride=stride, padding=1)
    gradient = torch.randn(outputs.shape, generator=generator)
    (expected,) = torch.autograd.grad(outputs, weight, gradient)
    return inputs, gradient, expected


def _trained(network: nn.Module, px: int) -> dict[str, torch.Tensor]:
    """Return the outputs for four random maps, and the gradients of inputs and weights."""
    inputs = torch.randn(4, 128, px, px, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(inputs)
    outputs.float().square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {"outputs": outputs, "inputs": inputs.grad} | gradients
