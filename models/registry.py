"""The networks by name. Knows no weights: `build` returns an untrained module."""

import importlib

from torch import nn

from models.errors import UnknownArchitecture

# Each name is a function of the file of that name. A file is imported when its network is built, because torchvision,
# which two of them need, takes seconds.
_ARCHITECTURES = (
    "basic_cnn",
    "inception",
    "lenet",
    "mlp",
    "quick",
    "residual",
    "resnet18",
    "vgg16",
    "whitened",
    "whitened_wide",
)


def names() -> tuple[str, ...]:
    """Return the registered architecture names, sorted."""
    return _ARCHITECTURES


def build(name: str) -> nn.Module:
    """Return the untrained network: float32 (batch, 3, 32, 32) to logits (batch, 10).

    Raises:
        UnknownArchitecture: no network of that name is registered.
    """
    if name not in _ARCHITECTURES:
        raise UnknownArchitecture(f"unknown architecture {name!r}: expected one of {', '.join(names())}")
    network: nn.Module = getattr(importlib.import_module(f"models.architectures.{name}"), name)()
    return network
