"""Every knob of a training run: name, type, bound, default, flag, environment variable and help in one place."""

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, CliPositionalArg, SettingsConfigDict

from models import DEFAULT_ARCHITECTURE, DEFAULT_MODEL
from models.labels import LABELS
from training.recipes import Augmentation, Optimizer, Recipe, RecipeName, Schedule, recipe_for

ModelName = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")]


class TrainingConfig(BaseSettings):
    """Train a CIFAR-10 classifier and publish it as the next version of a model.

    `cifarserve-train evaluate` assesses a published version again, `cifarserve-train import` publishes
    weights that another program saved; each has its own --help.

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

    architecture: str = Field(DEFAULT_ARCHITECTURE, description="network to train")
    recipe: RecipeName = Field("best", description="hyper-parameters: best, or tutorial: as the tutorials teach it")
    model: ModelName = Field("", description="name to publish under; empty: the architecture's")
    repository: Path = Field(Path("runs/models"), description="folder of models to publish into")
    data: Path = Field(Path("data"), description="folder that holds cifar-10-batches-py")
    download: bool = Field(default=False, description="fetch the data set when it is missing (MD5 checked)")
    validation_images: Annotated[int, Field(ge=len(LABELS), le=40_000)] = Field(
        2000, description="training pictures held back to watch progress and fit the temperature"
    )
    epochs: Annotated[int, Field(ge=1)] | None = Field(None, description="passes over the training pictures")
    batch_size: Annotated[int, Field(ge=2, le=10_000)] | None = Field(
        None, description="pictures per step, all processes together"
    )
    optimizer: Optimizer | None = Field(None, description="sgd|adam|adamw")
    lr: Annotated[float, Field(gt=0)] | None = Field(None, description="peak learning rate")
    schedule: Schedule | None = Field(None, description="after the warm-up: triangle, cosine (to 0) or constant")
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="SGD momentum (Nesterov)")
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(None, description="L2 on the weights, not the biases")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="publish a running average of the weights, 0.99 is over 100 steps; 0: the last weights"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="0 is none")
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="share of the steps in which the learning rate rises"
    )
    flip: bool | None = Field(None, description="mirror pictures in every other epoch")
    translate_px: Annotated[int, Field(ge=0, le=16)] | None = Field(None, description="random shift (crop), in pixels")
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] | None = Field(None, description="random turn, in degrees")
    cutout_px: Annotated[int, Field(ge=0, le=32)] | None = Field(None, description="side of the hidden square")
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(0, description="decides everything random")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field("auto", description="auto|cpu|cuda[:n]")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the device computes in it, else fp32"
    )
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads; 0: all that this process may use")
    channels_last: bool = Field(default=True, description="keep a pixel's channels together in memory: faster")
    run_folder: Path | None = Field(
        None, description="state, log and report of this run; default: runs/<model>-<recipe>"
    )
    tensorboard: bool = Field(default=True, description="log for TensorBoard into the run's folder")
    report: bool = Field(default=True, description="write report.md with pictures into the run's folder")
    publish: Literal["last", "best"] = Field("last", description="the last weights, or the best on validation")
    keep: Annotated[int, Field(ge=1)] = Field(2, description="saved states to keep, besides the best on validation")
    resume: bool = Field(default=False, description="go on from the last saved state in the run's folder")
    restart: bool = Field(default=False, description="throw away an unfinished run in the run's folder")

    @model_validator(mode="after")
    def _architecture_has_a_recipe(self) -> Self:
        recipe_for(self.architecture)
        return self

    def model_name(self) -> str:
        """Return the name to publish under."""
        return self.model or self.architecture

    def folder(self) -> Path:
        """Return the folder of this run's state, log and report."""
        return self.run_folder or Path("runs") / f"{self.model_name()}-{self.recipe}"

    def hyper_parameters(self) -> Recipe:
        """Return the recipe with the given hyper-parameters in place of its own."""
        base = recipe_for(self.architecture, self.recipe)
        return replace(
            base,
            **self._given(name for name in _names(Recipe) if name != "augmentation"),
            augmentation=replace(base.augmentation, **self._given(_names(Augmentation))),
        )

    def _given(self, names: Iterable[str]) -> dict[str, Any]:
        """Return those of the named settings that were given: a flag's name is its hyper-parameter's."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class EvaluationConfig(BaseSettings):
    """Assess a published version again: accuracy, calibration, and what each precision costs.

    Every flag can also be set as an environment variable: --repository is CIFARSERVE_TRAIN_REPOSITORY.
    """

    model_config = SettingsConfigDict(
        env_prefix="CIFARSERVE_TRAIN_",
        cli_prog_name="cifarserve-train evaluate",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        frozen=True,
    )

    version: CliPositionalArg[Annotated[str, Field(pattern=r"^(.+/)?\d*$")]] = Field(
        "", description="version, or MODEL/VERSION; default: the newest"
    )
    repository: Path = Field(Path("runs/models"), description="folder of models")
    model: str = Field(DEFAULT_MODEL, description="name of the model, where VERSION does not name it")
    data: Path = Field(Path("data"), description="folder that holds cifar-10-batches-py")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field("auto", description="auto|cpu|cuda[:n]")
    update_card: bool = Field(default=False, description="write what was found into the version's card")
    report: Path | None = Field(None, description="folder to write a report with pictures into")

    def named(self) -> tuple[str, int]:
        """Return the model and the version that are meant; version 0 is the newest."""
        model, _, version = self.version.rpartition("/")
        return model or self.model, int(version or 0)


class ImportConfig(BaseSettings):
    """Publish weights that another program saved with `torch.save(net.state_dict(), FILE)`.

    Every flag can also be set as an environment variable: --repository is CIFARSERVE_TRAIN_REPOSITORY.
    """

    model_config = SettingsConfigDict(
        env_prefix="CIFARSERVE_TRAIN_",
        cli_prog_name="cifarserve-train import",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        frozen=True,
    )

    file: CliPositionalArg[Path] = Field(description="file with the weights")
    architecture: str = Field(description="network that the weights belong to")
    model: ModelName = Field("", description="name to publish under; empty: the architecture's")
    repository: Path = Field(Path("runs/models"), description="folder of models to publish into")
    data: Path = Field(Path("data"), description="folder that holds cifar-10-batches-py")
    mean: float | None = Field(None, description="mean that pictures of 0..1 were normalized with, if not CIFAR-10's")
    std: Annotated[float, Field(gt=0)] | None = Field(None, description="the standard deviation, likewise")
    validation_images: Annotated[int, Field(ge=len(LABELS), le=40_000)] = Field(
        2000, description="training pictures to fit the temperature on"
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(0, description="decides which ones")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field("auto", description="auto|cpu|cuda[:n]")

    @model_validator(mode="after")
    def _mean_comes_with_std(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("expected both of --mean and --std, or neither")
        return self


def _names(kind: type[Recipe] | type[Augmentation]) -> list[str]:
    return [field.name for field in fields(kind)]
