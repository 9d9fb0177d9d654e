import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from client.standard_input import read_standard_input


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pipe from which standard input is read; tests close it."""
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: reading))
    yield writing
    os.close(reading)


def test_all_that_comes(writing: int) -> None:
    """What somebody writes bit by bit is read until its end."""

    def write() -> None:
        for part in [b"a" * 100_000, b"b", b"c" * 100_000]:
            os.write(writing, part)
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()

    assert read_standard_input(1_000_000) == b"a" * 100_000 + b"b" + b"c" * 100_000
    thread.join()


def test_no_more_than_the_limit(writing: int) -> None:
    """Input that never ends is read up to the limit."""
    os.write(writing, b"12345")

    assert read_standard_input(4) == b"1234"
    os.close(writing)


def test_interrupted(writing: int) -> None:
    """A signal ends the waiting for a picture that does not come."""
    timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
    timer.start()

    with pytest.raises(KeyboardInterrupt):
        read_standard_input(1)

    timer.join()
    os.close(writing)
    assert signal.set_wakeup_fd(-1) == -1  # nothing of it stays


def test_another_signal(writing: int) -> None:
    """A signal whose handler does not end the program leaves the reading as it is."""
    handled = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.set())

    def signal_then_write() -> None:
        signal.raise_signal(signal.SIGUSR1)
        handled.wait(10)
        os.write(writing, b"picture")
        os.close(writing)

    thread = threading.Thread(target=signal_then_write)
    thread.start()

    assert read_standard_input(100) == b"picture"
    assert handled.is_set()
    thread.join()
    signal.signal(signal.SIGUSR1, before)
