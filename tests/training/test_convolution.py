import pytest
import torch
from torch import nn

from models import registry
from models.variants import prepare
from training.convolution import speed_up_convolutions, weight_gradient


@pytest.mark.parametrize(("height", "width"), [(7, 7), (3, 3), (1, 1), (4, 6)])
def test_weight_gradient_is_the_true_one(height: int, width: int) -> None:
    """The nine products are the gradient that PyTorch computes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 4, height, width, generator=generator)
    weight = torch.randn(5, 4, 3, 3, generator=generator, requires_grad=True)
    gradient = torch.randn(3, 5, height, width, generator=generator)
    (expected,) = torch.autograd.grad(nn.functional.conv2d(inputs, weight, padding=1), weight, gradient)

    torch.testing.assert_close(weight_gradient(inputs, gradient), expected, rtol=1e-4, atol=1e-4)


def test_training_goes_the_same_way() -> None:
    """With the fast convolutions, outputs and all gradients in bf16 are those of without, as far as bf16 tells."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1, bias=False)).to(memory_format=torch.channels_last)
    fast = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1, bias=False)).to(memory_format=torch.channels_last)
    fast.load_state_dict(plain.state_dict())
    speed_up_convolutions(fast)
    found = []

    for network in (plain, fast):
        inputs = torch.randn(4, 128, 7, 7, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = network(inputs)
        outputs.float().square().sum().backward()
        found.append((outputs, inputs.grad, next(network.parameters()).grad))

    assert type(fast[0]) is not type(plain[0])
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=2e-2, atol=1.0)


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
