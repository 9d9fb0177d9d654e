"""The networks by name. Knows no weights: `build` returns an untrained module."""

import functools
import importlib
from collections.abc import Callable

from torch import nn

from models.errors import UnknownArchitecture


def _from_its_file(name: str) -> nn.Module:
    """Import the file when its network is built, because torchvision, which two of them need, takes seconds."""
    network: nn.Module = getattr(importlib.import_module(f"models.architectures.{name}"), name)()
    return network


# Each name is a function of the file of that name.
_ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    name: functools.partial(_from_its_file, name)
    for name in (
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
}


def names() -> tuple[str, ...]:
    """Return the registered architecture names, sorted."""
    return tuple(sorted(_ARCHITECTURES))


def build(name: str) -> nn.Module:
    """Return the untrained network: float32 (batch, 3, 32, 32) to logits (batch, 10).

    Raises:
        UnknownArchitecture: no network of that name is registered.
    """
    if name not in _ARCHITECTURES:
        raise UnknownArchitecture(f"unknown architecture {name!r}: expected one of {', '.join(names())}")
    return _ARCHITECTURES[name]()
