"""`cifarserve-train`: parse the flags, train, say what was published. All failures are one line."""

import sys

from pydantic import ValidationError

from models.errors import ModelError, UnknownArchitecture
from training.config import TrainingConfig
from training.errors import TrainingError
from training.loop import train


def main() -> None:
    """Run the trainer; exit 0 when a version was published, 2 for a bad flag, 1 for any other failure."""
    try:
        config = TrainingConfig(_cli_parse_args=sys.argv[1:])
        published = train(config)
    except ValidationError as exc:
        first = exc.errors()[0]
        flag = "".join(f"--{part}: ".replace("_", "-") for part in first["loc"][:1])
        _fail(f"{flag}{first['msg'].removeprefix('Value error, ')}", status=2)
    except UnknownArchitecture as exc:
        _fail(str(exc), status=2)
    except (ModelError, TrainingError) as exc:
        _fail(str(exc), status=1)
    except OSError as exc:
        _fail(f"{exc.filename or 'file'}: {exc.strerror or exc}", status=1)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was published", status=130)
    card = published.card
    print(
        f"published {card.model} version {card.version} in {published.folder}\n"
        f"  test accuracy {card.test.accuracy:.2%} on {card.test.images:,} images, one forward pass each\n"
        f"  ECE {card.test.ece:.4f} (before temperature {card.temperature:.3f}: {card.test.ece_uncalibrated:.4f})\n"
        f"  trained in {card.training.seconds / 60:.1f} minutes on {card.training.hardware}"
    )


def _fail(message: str, *, status: int) -> None:
    print(f"cifarserve-train: {message}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
