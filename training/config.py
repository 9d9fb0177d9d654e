"""Every knob of a training run: name, type, bound, default, flag, environment variable and help in one place."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models import DEFAULT_MODEL
from models.labels import LABELS
from training.augmentation import Augmentation
from training.recipes import Recipe, recipe_for

T = TypeVar("T")


class TrainingConfig(BaseSettings):
    """Train a CIFAR-10 classifier and publish it as the next version of a model.

    A hyper-parameter that is not given comes from the network's recipe. Every flag can also be set
    as an environment variable: --batch-size is CIFARSERVE_TRAIN_BATCH_SIZE. Flags win.
    """

    model_config = SettingsConfigDict(
        env_prefix="CIFARSERVE_TRAIN_",
        cli_prog_name="cifarserve-train",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        frozen=True,
    )

    architecture: str = Field(DEFAULT_MODEL, description="network to train")
    model: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$",
        description="name to publish under; empty: the architecture's",
    )
    repository: Path = Field(Path("runs/models"), description="folder of models to publish into")
    data: Path = Field(Path("data"), description="folder that holds cifar-10-batches-py")
    download: bool = Field(default=False, description="fetch the data set when it is missing (MD5 checked)")
    validation_images: Annotated[int, Field(ge=len(LABELS), le=40_000)] = Field(
        2000, description="training pictures held back to watch progress and fit the temperature"
    )
    epochs: Annotated[int, Field(ge=1)] | None = Field(None, description="passes over the training pictures")
    batch_size: Annotated[int, Field(ge=2, le=10_000)] | None = Field(None, description="pictures per step")
    lr: Annotated[float, Field(gt=0)] | None = Field(None, description="peak learning rate")
    momentum: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="SGD momentum (Nesterov)")
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(None, description="L2 on the weights, not the biases")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="0 is none")
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="share of the steps in which the learning rate rises"
    )
    flip: bool | None = Field(None, description="mirror pictures in every other epoch")
    translate_px: Annotated[int, Field(ge=0, le=16)] | None = Field(None, description="random shift, in pixels")
    cutout_px: Annotated[int, Field(ge=0, le=32)] | None = Field(None, description="side of the hidden square")
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(0, description="decides everything random")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field("auto", description="auto|cpu|cuda[:n]")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the device computes in it, else fp32"
    )
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads; 0: all that this process may use")

    @model_validator(mode="after")
    def _architecture_has_a_recipe(self) -> Self:
        recipe_for(self.architecture)
        return self

    def recipe(self) -> Recipe:
        """Return the recipe with the given hyper-parameters in place of its own."""
        base = recipe_for(self.architecture)
        return Recipe(
            epochs=_given(self.epochs, base.epochs),
            batch_size=_given(self.batch_size, base.batch_size),
            lr=_given(self.lr, base.lr),
            momentum=_given(self.momentum, base.momentum),
            weight_decay=_given(self.weight_decay, base.weight_decay),
            label_smoothing=_given(self.label_smoothing, base.label_smoothing),
            warmup_fraction=_given(self.warmup_fraction, base.warmup_fraction),
            augmentation=Augmentation(
                flip=_given(self.flip, base.augmentation.flip),
                translate_px=_given(self.translate_px, base.augmentation.translate_px),
                cutout_px=_given(self.cutout_px, base.augmentation.cutout_px),
            ),
        )


class EvaluationConfig(BaseSettings):
    """Assess a published version again: accuracy, calibration, and what each precision costs.

    Every flag can also be set as an environment variable: --repository is CIFARSERVE_TRAIN_REPOSITORY.
    """

    model_config = SettingsConfigDict(
        env_prefix="CIFARSERVE_TRAIN_",
        cli_prog_name="cifarserve-train evaluate",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        frozen=True,
    )

    repository: Path = Field(Path("runs/models"), description="folder of models")
    model: str = Field(DEFAULT_MODEL, description="name of the model")
    version: Annotated[int, Field(ge=0)] = Field(0, description="version of the model; 0: the newest")
    data: Path = Field(Path("data"), description="folder that holds cifar-10-batches-py")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field("auto", description="auto|cpu|cuda[:n]")
    update_card: bool = Field(default=False, description="write what was found into the version's card")


def _given(value: T | None, default: T) -> T:
    return default if value is None else value
