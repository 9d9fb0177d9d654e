import pytest
import torch

from models.architectures.whitened import WhitenedNet, whitened
from models.preprocessing import normalize
from tests.models import pictures


@pytest.fixture
def network() -> WhitenedNet:
    return whitened()


def test_stem_whitens(network: WhitenedNet) -> None:
    """The stem's features of smooth pictures are uncorrelated and of unit variance, though the pixels are not."""
    inputs = normalize(pictures.smooth(500), dtype=torch.float32)

    network.initialize_from(inputs)

    torch.testing.assert_close(_second_moment(network.stem(inputs)[:, :12]), torch.eye(12), atol=0.03, rtol=0)
    assert _second_moment(inputs)[0, 1] > 0.5


def test_stem_has_both_signs(network: WhitenedNet) -> None:
    """The second half of the stem is the negative of the first, so that no direction is lost in the activation."""
    network.initialize_from(normalize(pictures.smooth(100), dtype=torch.float32))

    assert torch.equal(network.stem.weight[:12], -network.stem.weight[12:])


def test_stem_does_not_blow_up_what_never_varies(network: WhitenedNet) -> None:
    """Directions without variance are amplified by a bounded factor, not by a division by zero."""
    grey = torch.full((10, 32, 32, 3), 127, dtype=torch.uint8)

    network.initialize_from(normalize(grey, dtype=torch.float32))

    assert network.stem.weight.abs().max() <= 5e-4**-0.5


def test_stem_is_not_trained(network: WhitenedNet) -> None:
    """Nothing flows back into the whitening filters and the normalizations' scales."""
    network(torch.randn(2, 3, 32, 32)).sum().backward()

    untouched = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    scales = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert untouched == {"stem.weight"} | scales


def test_initialization_is_not_recorded_for_autograd(network: WhitenedNet) -> None:
    """Setting the stem leaves no history behind, so the network can be trained and copied at once."""
    network.initialize_from(normalize(pictures.smooth(10), dtype=torch.float32).requires_grad_())

    assert network.stem.weight.grad_fn is None


def _second_moment(features: torch.Tensor) -> torch.Tensor:
    vectors = features.detach().transpose(0, 1).flatten(1)
    return vectors @ vectors.T / vectors.shape[1]
