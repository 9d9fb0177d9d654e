"""`cifarserve-train [evaluate|import]`: answers Ctrl-C from its first moment, then runs `training.commands`."""

import sys

from training.interruption import leaving_at_once


def main() -> None:
    """Run the trainer; exit 0 when it did what it was asked, 2 for a bad flag, 130 after a signal, else 1."""
    with leaving_at_once():
        from training.commands import run_command  # noqa: PLC0415 - reads flags with pydantic: half a second

        run_command(sys.argv[1:])


if __name__ == "__main__":
    main()
