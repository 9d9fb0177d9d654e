"""The networks by name. Knows no weights: `build` returns an untrained module."""

from collections.abc import Callable

from torch import nn

from models.architectures.quick import quick
from models.architectures.whitened import whitened
from models.architectures.whitened_wide import whitened_wide
from models.errors import UnknownArchitecture

_ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "quick": quick,
    "whitened": whitened,
    "whitened_wide": whitened_wide,
}


def names() -> tuple[str, ...]:
    """Return the registered architecture names, sorted."""
    return tuple(sorted(_ARCHITECTURES))


def build(name: str) -> nn.Module:
    """Return the untrained network: float32 (batch, 3, 32, 32) to logits (batch, 10).

    Raises:
        UnknownArchitecture: no network of that name is registered.
    """
    try:
        return _ARCHITECTURES[name]()
    except KeyError:
        raise UnknownArchitecture(f"unknown architecture {name!r}: expected one of {', '.join(names())}") from None
