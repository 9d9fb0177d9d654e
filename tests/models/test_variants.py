import pytest
import torch
from torch import nn

from models import registry
from models.variants import PRECISIONS, fold_normalization, prepare


def trained_looking(name: str) -> nn.Module:
    """Return a network whose normalizations have seen pictures and learned shifts, as after training."""
    network = registry.build(name)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
    network(torch.randn(16, 3, 32, 32))
    return network.eval()


@pytest.mark.parametrize("name", registry.names())
def test_prepared_network_gives_the_same_logits(name: str) -> None:
    """Folding the normalizations away changes how logits are computed, not what they are."""
    network = trained_looking(name)
    inputs = torch.randn(4, 3, 32, 32)

    prepared = prepare(network, precision="fp32")

    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    with torch.inference_mode():
        torch.testing.assert_close(prepared(inputs), network(inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
def test_network_is_prepared_in_one_type(precision: str) -> None:
    """A prepared network takes and gives one floating type throughout."""
    dtype = PRECISIONS[precision]

    prepared = prepare(trained_looking("whitened"), precision=precision)

    with torch.inference_mode():
        assert prepared(torch.randn(2, 3, 32, 32, dtype=dtype)).dtype == dtype
    assert {parameter.dtype for parameter in prepared.parameters()} == {dtype}


def test_network_itself_stays_as_it_is() -> None:
    """Preparing makes a copy: the network can be trained on, or saved."""
    network = trained_looking("whitened")
    before = {name: value.clone() for name, value in network.state_dict().items()}

    prepare(network, precision="bf16")

    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_normalization_behind_a_pool(sign: float) -> None:
    """A normalization passes a max-pool only where its scales are positive; the outputs are the same either way."""
    normalization = nn.BatchNorm2d(4)
    nn.init.constant_(normalization.weight, sign)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), normalization).eval()
    inputs = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        expected = network(inputs)

    fold_normalization(network)

    assert isinstance(network[2], nn.Identity) == (sign > 0)
    with torch.inference_mode():
        torch.testing.assert_close(network(inputs), expected, rtol=1e-4, atol=1e-5)
