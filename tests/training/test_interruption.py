"""A signal is noted when it comes and raised where the loop asks."""

import os
import signal

import pytest

from training.errors import Interrupted
from training.interruption import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_raised_at_the_next_check(number: signal.Signals) -> None:
    """Nothing is thrown where the signal comes in; the next check raises."""
    with interruptible() as raise_if_interrupted:
        raise_if_interrupted()
        os.kill(os.getpid(), number)

        with pytest.raises(Interrupted, match="interrupted; nothing was published"):
            raise_if_interrupted()


def test_second_signal_ends_the_process() -> None:
    """After the first signal the default action is back: whoever presses Ctrl-C twice is not kept waiting."""
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)

        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def test_handlers_of_before_come_back() -> None:
    """Outside of a run Ctrl-C is a KeyboardInterrupt again."""
    before = signal.getsignal(signal.SIGINT)

    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)

    assert signal.getsignal(signal.SIGINT) == before
