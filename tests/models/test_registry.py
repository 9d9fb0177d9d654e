import pytest
import torch

from models import DEFAULT_ARCHITECTURE, registry
from models.errors import UnknownArchitecture

PARAMETERS = {
    "basic_cnn": 10_790,
    "inception": 105_718,
    "lenet": 62_006,
    "mlp": 1_746_506,
    "quick": 145_578,
    "residual": 45_194,
    "resnet18": 11_173_962,
    "vgg16": 14_728_266,
    "whitened": 3_153_464,
    "whitened_wide": 4_444_728,
}


def test_names_are_sorted_and_hold_the_default() -> None:
    """The default architecture is one that can be built."""
    assert registry.names() == tuple(sorted(PARAMETERS))
    assert DEFAULT_ARCHITECTURE in registry.names()


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameter_count(name: str, parameters: int) -> None:
    """The networks have the size that their documentation says."""
    network = registry.build(name)

    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("batch_size", [1, 3])
def test_pictures_in_logits_out(name: str, batch_size: int) -> None:
    """Every network turns float32 (batch, 3, 32, 32) into finite float32 logits (batch, 10)."""
    network = registry.build(name).eval()

    with torch.inference_mode():
        logits = network(torch.randn(batch_size, 3, 32, 32))

    assert logits.shape == (batch_size, 10)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", registry.names())
def test_same_answer_alone_and_in_a_batch(name: str) -> None:
    """A picture's logits do not depend on its batch-mates."""
    network = registry.build(name).eval()
    inputs = torch.randn(5, 3, 32, 32)

    with torch.inference_mode():
        together = network(inputs)
        alone = torch.cat([network(row) for row in inputs.unsqueeze(1)])

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_each_build_is_new() -> None:
    """Two networks of one name share no weights."""
    first, second = registry.build("quick"), registry.build("quick")

    assert not {id(parameter) for parameter in first.parameters()} & {
        id(parameter) for parameter in second.parameters()
    }


@pytest.mark.parametrize("name", ["resnet9000", "", "Quick", "quick ", "__class__"])
def test_unknown_architecture(name: str) -> None:
    """A name that is not registered is refused, and the message lists those that are."""
    with pytest.raises(UnknownArchitecture, match="expected one of basic_cnn, inception, lenet, ") as caught:
        registry.build(name)

    assert repr(name) in str(caught.value)
