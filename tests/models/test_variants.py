import pytest
import torch
from torch import nn

from models import registry
from models.variants import PRECISIONS, fold_normalization, layouts, merge_linear_layers, prepare

CPU = torch.device("cpu")


def trained_looking(name: str) -> nn.Module:
    """Return a network whose normalizations have seen pictures and learned shifts, as after training."""
    network = registry.build(name)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
    network(torch.randn(16, 3, 32, 32))
    return network.eval()


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("layout", ["blocked", "channels_last"])
def test_prepared_network_gives_the_same_logits(name: str, layout: str) -> None:
    """Folding the normalizations away, and the layout, change how logits are computed, not what they are."""
    if layout not in layouts(registry.build(name), CPU):
        pytest.skip(f"{name} has an operation that does not know blocked tensors")
    network = trained_looking(name)
    inputs = torch.randn(4, 3, 32, 32)

    prepared = prepare(network, precision="fp32", layout=layout)

    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    with torch.inference_mode():
        torch.testing.assert_close(prepared(inputs), network(inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("layout", ["blocked", "channels_last"])
def test_network_is_prepared_in_one_type(precision: str, layout: str) -> None:
    """A prepared network takes and gives one floating type throughout."""
    dtype = PRECISIONS[precision]

    prepared = prepare(trained_looking("whitened"), precision=precision, layout=layout)

    with torch.inference_mode():
        assert prepared(torch.randn(2, 3, 32, 32, dtype=dtype)).dtype == dtype
    assert {parameter.dtype for parameter in prepared.parameters()} == {dtype}


def test_network_itself_stays_as_it_is() -> None:
    """Preparing makes a copy: the network can be trained on, or saved."""
    network = trained_looking("whitened")
    before = {name: value.clone() for name, value in network.state_dict().items()}

    for layout in layouts(network, CPU):
        prepare(network, precision="bf16", layout=layout)

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


def test_linear_layers_in_a_row_become_one() -> None:
    """Layers with nothing between them are one matrix, with biases or without; the outputs are the same."""
    network = nn.Sequential(
        nn.Linear(32, 16), nn.Linear(16, 8, bias=False), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    inputs = torch.randn(5, 32)
    with torch.inference_mode():
        expected = network(inputs)

    merge_linear_layers(network)

    assert [type(layer) for layer in network] == [nn.Identity, nn.Identity, nn.Linear, nn.ReLU, nn.Linear]
    with torch.inference_mode():
        torch.testing.assert_close(network(inputs), expected, rtol=1e-4, atol=1e-5)


def test_bottleneck_stays_two_layers() -> None:
    """Two narrow layers do less work than the wide one that they would make."""
    network = nn.Sequential(nn.Linear(64, 2), nn.Linear(2, 64))

    merge_linear_layers(network)

    assert network[0].out_features == 2


class Concatenating(nn.Module):
    """A network with an operation that oneDNN's opaque tensors do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.convolution(inputs)
        return torch.cat([features, features], dim=1).flatten(1)


def test_blocked_layout_is_offered_where_every_operation_knows_it() -> None:
    """The shipped networks have it; one that concatenates, or pads by reflection, is computed channels last."""
    reflecting = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.Flatten())

    assert layouts(registry.build("whitened"), CPU) == ("blocked", "channels_last")
    assert layouts(Concatenating(), CPU) == ("channels_last",)
    assert layouts(reflecting, CPU) == ("channels_last",)
    assert layouts(registry.build("whitened"), torch.device("cuda")) == ("channels_last",)
