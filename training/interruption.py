"""Ctrl-C and SIGTERM of a training run: noted when they come, acted on between two steps.

A KeyboardInterrupt can arise inside a destructor or a weak reference's callback, where Python prints and drops it;
a note that the loop reads cannot be lost.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from training.errors import Interrupted


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Yield the function that a loop calls once per step: it raises Interrupted after SIGINT or SIGTERM.

    A second signal ends the process at once, as if nobody listened. The handlers of before are put back at the end.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    def check() -> None:
        if received:
            raise Interrupted("interrupted; nothing was published")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
