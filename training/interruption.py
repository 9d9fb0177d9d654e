"""Ctrl-C and SIGTERM of a training run: noted when they come, acted on between two steps.

A KeyboardInterrupt can arise inside a destructor or a weak reference's callback, where Python prints and drops it;
a note that the loop reads cannot be lost. Imports nothing that takes time.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield the function that tells, whenever a loop asks, whether SIGINT or SIGTERM came.

    A second signal ends the process at once, as if nobody listened. The handlers of before are put back at the end.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    with _handled_by(note):
        yield lambda: bool(received)


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """End the process in one line, with status 130, when SIGINT or SIGTERM comes: there is nothing to save yet."""

    def leave(_: int, __: FrameType | None) -> None:
        os.write(2, b"cifarserve-train: interrupted; nothing was published\n")
        os._exit(130)  # an exception could be lost in an import or a destructor

    with _handled_by(leave):
        yield


@contextlib.contextmanager
def _handled_by(handler: _Handler) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
