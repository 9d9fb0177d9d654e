"""How far a long work is, for the person at the terminal; nothing where nobody looks."""

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(total: int | None, *, visible: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error for as long as the block lasts, if that is a terminal.

    Args:
        total: how many steps there are; None: nobody knows.
        visible: False shows nothing.

    Yields:
        What to call with the number of steps that were done since the last time.
    """
    if not visible or not sys.stderr.isatty():
        yield lambda _: None
        return
    import click  # noqa: PLC0415  # programs that show no bar do not pay for it

    bar: click._termui_impl.ProgressBar[int] = click.progressbar(length=total, file=sys.stderr)
    with bar:
        yield bar.update
