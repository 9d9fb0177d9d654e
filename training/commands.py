"""What `cifarserve-train` can be told to do, and what it says at the end. All failures are one line."""

import sys

from pydantic import ValidationError

from models.card import Card
from models.errors import ModelError, UnknownArchitecture
from training.config import EvaluationConfig, ImportConfig, TrainingConfig
from training.errors import Interrupted, TrainingError


def run_command(arguments: list[str]) -> None:
    """Do what the arguments say; raise SystemExit with the status when that fails."""
    try:
        match arguments:
            case ["evaluate", *flags]:
                _evaluate(flags)
            case ["import", *flags]:
                _import(flags)
            case flags:
                _train(flags)
    except ValidationError as exc:
        first = exc.errors()[0]
        flag = "".join(f"--{part}: ".replace("_", "-") for part in first["loc"][:1])
        _fail(f"{flag}{first['msg'].removeprefix('Value error, ')}", status=2)
    except UnknownArchitecture as exc:
        _fail(str(exc), status=2)
    except Interrupted as exc:
        _fail(str(exc), status=130)
    except (ModelError, TrainingError) as exc:
        _fail(str(exc), status=1)
    except OSError as exc:
        _fail(f"{exc.filename or 'file'}: {exc.strerror or exc}", status=1)


def _train(flags: list[str]) -> None:
    config = TrainingConfig(_cli_parse_args=flags)
    from training.loop import train  # noqa: PLC0415 - imports torch, which takes seconds: a wrong flag is said first

    published = train(config)
    if published is None:  # one of the further processes
        return
    card = published.card
    print(f"published {card.model} version {card.version} in {published.folder}\n{_quality(card)}")
    print(f"  trained in {card.training.seconds / 60:.1f} minutes on {card.training.hardware}")


def _evaluate(flags: list[str]) -> None:
    config = EvaluationConfig(_cli_parse_args=flags)
    from training.assessment import reassess  # noqa: PLC0415 - as above

    card = reassess(config)
    print(f"{card.model} version {card.version}\n{_quality(card)}")


def _import(flags: list[str]) -> None:
    config = ImportConfig(_cli_parse_args=flags)
    from training.importing import import_weights  # noqa: PLC0415 - as above

    published = import_weights(config)
    card = published.card
    print(f"imported {card.model} version {card.version} into {published.folder}\n{_quality(card)}")


def _quality(card: Card) -> str:
    """Return the figures that a person wants to see first."""
    lines = [
        f"test accuracy {card.test.accuracy:.2%} on {card.test.images:,} images, one forward pass each",
        f"ECE {card.test.ece:.4f} (before temperature {card.temperature:.3f}: {card.test.ece_uncalibrated:.4f})",
        *(
            f"{name}: accuracy {check.accuracy:.2%}, fp32's label on {check.agreement:.2%}"
            f" ({'may' if name in card.allowed_precisions() else 'may not'} be served)"
            for name, check in card.precisions.items()
        ),
    ]
    return "\n".join(f"  {line}" for line in lines)


def _fail(message: str, *, status: int) -> None:
    print(f"cifarserve-train: {message}", file=sys.stderr)
    raise SystemExit(status)
