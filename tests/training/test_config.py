from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from models import DEFAULT_ARCHITECTURE, registry
from models.errors import UnknownArchitecture
from models.repository import Repository
from training.config import EvaluationConfig, ImportConfig, TrainingConfig
from training.recipes import RECIPES, Augmentation, Recipe, RecipeName


def parse(*flags: str) -> TrainingConfig:
    """Return the configuration as the command line would."""
    return TrainingConfig(_cli_parse_args=list(flags))


def test_flag_beats_environment_beats_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag wins over the environment, which wins over the network's recipe."""
    assert parse().hyper_parameters().epochs == RECIPES["best"][DEFAULT_ARCHITECTURE].epochs
    monkeypatch.setenv("CIFARSERVE_TRAIN_EPOCHS", "7")
    assert parse().hyper_parameters().epochs == 7
    assert parse("--epochs", "3").hyper_parameters().epochs == 3


def test_flag_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same order holds for a knob that no recipe knows."""
    assert parse().validation_images == 2000
    monkeypatch.setenv("CIFARSERVE_TRAIN_VALIDATION_IMAGES", "500")
    assert parse().validation_images == 500
    assert parse("--validation-images", "30").validation_images == 30


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("architecture", registry.names())
def test_recipe_is_the_architectures_own(architecture: str, recipe: RecipeName) -> None:
    """Without hyper-parameters a run follows the recipe of its network, to the letter."""
    parsed = parse("--architecture", architecture, "--recipe", recipe).hyper_parameters()

    assert parsed == RECIPES[recipe][architecture]


def test_every_hyper_parameter_can_be_given() -> None:
    """Each flag replaces exactly its own part of the recipe, zero and False included."""
    flags = (
        "--epochs 1 --batch-size 2 --optimizer adamw --lr 0.3 --momentum 0.4 --weight-decay 0 --label-smoothing 0 "
        "--schedule cosine --warmup-fraction 0 --ema-decay 0 --no-flip --translate-px 0 --rotate-degrees 15 "
        "--cutout-px 0"
    )

    recipe = parse(*flags.split()).hyper_parameters()

    assert recipe == Recipe(
        epochs=1,
        batch_size=2,
        optimizer="adamw",
        lr=0.3,
        momentum=0.4,
        weight_decay=0.0,
        label_smoothing=0.0,
        schedule="cosine",
        warmup_fraction=0.0,
        ema_decay=0.0,
        augmentation=Augmentation(flip=False, translate_px=0, rotate_degrees=15, cutout_px=0),
    )


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--epochs", "0"),
        ("--epochs", "ten"),
        ("--batch-size", "1"),
        ("--batch-size", "10001"),
        ("--lr", "0"),
        ("--lr", "nan"),
        ("--momentum", "1"),
        ("--weight-decay", "-0.1"),
        ("--label-smoothing", "1"),
        ("--warmup-fraction", "1"),
        ("--translate-px", "17"),
        ("--cutout-px", "33"),
        ("--rotate-degrees", "181"),
        ("--ema-decay", "1"),
        ("--optimizer", "lion"),
        ("--schedule", "stairs"),
        ("--recipe", "worst"),
        ("--keep", "0"),
        ("--validation-images", "9"),
        ("--validation-images", "40001"),
        ("--seed", "-1"),
        ("--seed", "99999999999999999999"),
        ("--device", "tpu"),
        ("--device", "cuda:x"),
        ("--precision", "fp8"),
        ("--threads", "-1"),
        ("--model", "../elsewhere"),
        ("--model", ".hidden"),
        ("--model", "a/b"),
    ],
)
def test_out_of_bounds(flag: str, value: str) -> None:
    """A value that makes no sense is refused before anything is read, and the error names the flag."""
    with pytest.raises(ValidationError) as caught:
        parse(flag, value)

    assert caught.value.errors()[0]["loc"][0] == flag.removeprefix("--").replace("-", "_")


def test_unknown_architecture() -> None:
    """A network that is not registered is refused, and the message lists those that are."""
    with pytest.raises(UnknownArchitecture, match="expected one of basic_cnn, inception, lenet, "):
        parse("--architecture", "resnet9000")


@pytest.mark.parametrize("name", ["quick", "Whitened-2026.1_b", "a" * 64, "0"])
def test_names_can_be_published_under(tmp_path: Path, name: str) -> None:
    """A model's name that the trainer accepts is one that a repository lists."""
    (tmp_path / name / "1").mkdir(parents=True)

    assert Repository(tmp_path).models() == (parse("--model", name).model,)


def test_largest_seed_can_be_drawn_from() -> None:
    """The largest seed that is accepted works in the last epoch that anyone will train."""
    seed = parse("--seed", str(2**32 - 1)).seed

    assert seed * 1_000_003 + 1_000_000 < 2**63


@pytest.mark.parametrize("config", [TrainingConfig, EvaluationConfig, ImportConfig])
def test_every_knob_is_explained(config: type[BaseSettings]) -> None:
    """Every flag has a help text."""
    unexplained = [name for name, field in config.model_fields.items() if not field.description]

    assert unexplained == []


def test_configuration_cannot_be_changed() -> None:
    """A run is what it was configured to be."""
    config = parse()

    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 3  # type: ignore[misc]
