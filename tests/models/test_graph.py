import torch
from torch import nn

from models import registry
from models.graph import normalized_convolutions


class Shared(nn.Module):
    """The output of `first` is normalized and used as it is; that of `second` is only normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norm_of_first, self.norm_of_second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first = self.first(inputs)
        second: torch.Tensor = self.norm_of_second(self.second(first + self.norm_of_first(first)))
        return second


def test_convolution_that_others_use_is_left_alone() -> None:
    """Only a convolution whose output nobody else sees can take in its normalization."""
    network = Shared()

    assert normalized_convolutions(network) == [(network.second, network.norm_of_second, "norm_of_second")]


def test_resnet18_is_understood() -> None:
    """All twenty normalizations of resnet18 follow a convolution of their own."""
    assert len(normalized_convolutions(registry.build("resnet18"))) == 20


def test_network_without_normalization_is_not_traced() -> None:
    """A network that could not be traced is no obstacle when there is nothing to find."""

    class Branching(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs if inputs.sum() > 0 else -inputs

    assert normalized_convolutions(Branching()) == []
