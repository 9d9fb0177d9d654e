"""The hyper-parameters that each network trains best with; `--epochs` and the other flags override them."""

from dataclasses import dataclass

from models.errors import UnknownArchitecture
from training.augmentation import Augmentation


@dataclass(frozen=True)
class Recipe:
    """One network's training, learning rates for the mean loss of a batch of `batch_size` pictures."""

    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    warmup_fraction: float
    augmentation: Augmentation


RECIPES: dict[str, Recipe] = {
    "quick": Recipe(
        epochs=40,
        batch_size=256,
        lr=0.04,
        momentum=0.9,
        weight_decay=5e-4,
        label_smoothing=0.0,
        warmup_fraction=0.2,
        augmentation=Augmentation(flip=True, translate_px=2, cutout_px=0),
    ),
    "whitened": Recipe(
        epochs=40,
        batch_size=500,
        lr=0.5,
        momentum=0.9,
        weight_decay=7e-4,
        label_smoothing=0.1,
        warmup_fraction=0.2,
        augmentation=Augmentation(flip=True, translate_px=4, cutout_px=8),
    ),
}


def recipe_for(architecture: str) -> Recipe:
    """Return the recipe of a network.

    Raises:
        UnknownArchitecture: there is none for that name.
    """
    try:
        return RECIPES[architecture]
    except KeyError:
        raise UnknownArchitecture(
            f"unknown architecture {architecture!r}: expected one of {', '.join(RECIPES)}"
        ) from None
