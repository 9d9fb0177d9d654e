"""The hyper-parameters of each network: as the tutorials teach it, and as it trains best. Flags override them.

Imports nothing that takes time, so that a wrong flag is said at once.
"""

from dataclasses import dataclass
from typing import Literal

from models.errors import UnknownArchitecture

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["triangle", "cosine", "constant"]
RecipeName = Literal["best", "tutorial"]


@dataclass(frozen=True)
class Augmentation:
    """What to do to each picture. Zero and False leave it alone.

    Attributes:
        flip: mirror left and right, each picture in every other epoch.
        translate_px: shift by up to this many pixels each way, edges mirrored.
        rotate_degrees: turn by up to this angle each way about the middle, edges mirrored.
        cutout_px: side of a square that is filled with grey (DeVries & Taylor, arXiv:1708.04552).
    """

    flip: bool = True
    translate_px: int = 4
    rotate_degrees: float = 0
    cutout_px: int = 8


@dataclass(frozen=True)
class Recipe:
    """One network's training, learning rates for the mean loss of a batch of `batch_size` pictures."""

    epochs: int
    batch_size: int
    lr: float
    augmentation: Augmentation
    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    schedule: Schedule = "triangle"
    warmup_fraction: float = 0.2
    ema_decay: float = 0.0


_PLAIN = Augmentation(flip=False, translate_px=0, rotate_degrees=0, cutout_px=0)
_LIGHT = Augmentation(flip=True, translate_px=2, rotate_degrees=0, cutout_px=0)
_USUAL = Augmentation(flip=True, translate_px=4, rotate_degrees=0, cutout_px=8)


def _taught(lr: float, *, momentum: float = 0.0, epochs: int = 20) -> Recipe:
    """Plain SGD at a constant rate, without augmentation: the first training loop that anyone writes."""
    return Recipe(
        epochs=epochs,
        batch_size=64,
        lr=lr,
        momentum=momentum,
        weight_decay=0.0,
        schedule="constant",
        warmup_fraction=0.0,
        augmentation=_PLAIN,
    )


_TAUGHT_WITH_ADAM = Recipe(
    epochs=20,
    batch_size=64,
    lr=1e-3,
    optimizer="adam",
    weight_decay=0.0,
    schedule="constant",
    warmup_fraction=0.0,
    augmentation=_PLAIN,
)

_BEST: dict[str, Recipe] = {
    "basic_cnn": Recipe(epochs=40, batch_size=256, lr=0.05, weight_decay=1e-4, ema_decay=0.99, augmentation=_LIGHT),
    "inception": Recipe(epochs=100, batch_size=256, lr=0.05, weight_decay=5e-5, ema_decay=0.99, augmentation=_LIGHT),
    "lenet": Recipe(epochs=60, batch_size=256, lr=0.05, weight_decay=1e-4, ema_decay=0.99, augmentation=_LIGHT),
    "mlp": Recipe(
        epochs=40,
        batch_size=256,
        lr=1e-3,
        optimizer="adamw",
        weight_decay=0.05,
        label_smoothing=0.1,
        ema_decay=0.99,
        augmentation=_LIGHT,
    ),
    "quick": Recipe(epochs=40, batch_size=256, lr=0.04, augmentation=_LIGHT),
    "residual": Recipe(epochs=60, batch_size=256, lr=0.05, weight_decay=1e-4, ema_decay=0.99, augmentation=_LIGHT),
    "resnet18": Recipe(epochs=20, batch_size=128, lr=0.1, label_smoothing=0.1, augmentation=_USUAL),
    "vgg16": Recipe(epochs=24, batch_size=128, lr=0.1, label_smoothing=0.1, augmentation=_USUAL),
    "whitened": Recipe(epochs=40, batch_size=500, lr=0.5, weight_decay=7e-4, label_smoothing=0.1, augmentation=_USUAL),
    "whitened_wide": Recipe(
        epochs=60,
        batch_size=500,
        lr=0.5,
        weight_decay=7e-4,
        label_smoothing=0.1,
        ema_decay=0.995,
        augmentation=Augmentation(flip=True, translate_px=4, rotate_degrees=0, cutout_px=10),
    ),
}

_TUTORIAL: dict[str, Recipe] = {
    "basic_cnn": _taught(0.01, momentum=0.5),
    "inception": _taught(0.01, momentum=0.5),
    "lenet": _TAUGHT_WITH_ADAM,
    "mlp": _taught(0.01, momentum=0.5),
    "quick": _taught(0.01),
    "residual": _taught(0.01, momentum=0.5),
    "resnet18": _TAUGHT_WITH_ADAM,
    "vgg16": _TAUGHT_WITH_ADAM,
    "whitened": _TAUGHT_WITH_ADAM,
    "whitened_wide": _TAUGHT_WITH_ADAM,
}

RECIPES: dict[RecipeName, dict[str, Recipe]] = {"best": _BEST, "tutorial": _TUTORIAL}


def recipe_for(architecture: str, name: RecipeName = "best") -> Recipe:
    """Return a recipe of a network.

    Raises:
        UnknownArchitecture: there is none for that name.
    """
    try:
        return RECIPES[name][architecture]
    except KeyError:
        raise UnknownArchitecture(
            f"unknown architecture {architecture!r}: expected one of {', '.join(_BEST)}"
        ) from None
