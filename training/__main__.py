"""`cifarserve-train [evaluate]`: parse the flags, train or assess, say what came out. All failures are one line."""

import sys

from pydantic import ValidationError

from models.card import Card
from models.errors import ModelError, UnknownArchitecture
from training.assessment import reassess
from training.config import EvaluationConfig, TrainingConfig
from training.errors import Interrupted, TrainingError
from training.loop import train


def main() -> None:
    """Run the trainer; exit 0 when it did what it was asked, 2 for a bad flag, 1 for any other failure."""
    try:
        if sys.argv[1:2] == ["evaluate"]:
            card = reassess(EvaluationConfig(_cli_parse_args=sys.argv[2:]))
            print(f"{card.model} version {card.version}\n{_quality(card)}")
        else:
            published = train(TrainingConfig(_cli_parse_args=sys.argv[1:]))
            card = published.card
            print(f"published {card.model} version {card.version} in {published.folder}\n{_quality(card)}")
            print(f"  trained in {card.training.seconds / 60:.1f} minutes on {card.training.hardware}")
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
    except KeyboardInterrupt:
        _fail("interrupted; nothing was published", status=130)


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


if __name__ == "__main__":
    main()
