"""A signal is noted when it comes, and told where the loop asks."""

import os
import signal
import subprocess
import sys

import pytest

from training.interruption import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_told_at_the_next_question(number: signal.Signals) -> None:
    """Nothing is thrown where the signal comes in; whoever asks afterwards is told."""
    with interruptible() as is_interrupted:
        assert not is_interrupted()

        os.kill(os.getpid(), number)

        assert is_interrupted()


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_a_destructor_is_not_lost(number: signal.Signals) -> None:
    """Before there is anything to save, the process ends at once, wherever it is, in one line."""
    program = f"""
import os
from training.interruption import leaving_at_once

class Careless:
    def __del__(self):
        os.kill(os.getpid(), {int(number)})

with leaving_at_once():
    Careless()
    print("went on")
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (finished.returncode, finished.stdout) == (130, "")
    assert finished.stderr == "cifarserve-train: interrupted; nothing was published\n"
