"""Standard input, read so that Ctrl-C always ends it. Knows nothing of pictures."""

import errno
import os
import select
import signal
import socket
import sys

_READ_AT_ONCE_BYTES = 1 << 20


def read_standard_input(limit_bytes: int) -> bytes:
    """Return what comes until its end, at most `limit_bytes` of it. For the main thread, which signals interrupt.

    A read() of the interpreter misses a signal that comes just before it waits for more: it looks for signals only
    when the kernel interrupted it. Here a signal is one of two things that end the waiting.

    Raises:
        KeyboardInterrupt: SIGINT came.
        OSError: there is no standard input, or it cannot be read.
    """
    if sys.stdin is None:  # so the interpreter says that it was started without one
        raise OSError(errno.EBADF, "standard input is closed")
    descriptor = sys.stdin.fileno()
    signalled, signals = socket.socketpair()
    with signalled, signals:
        signals.settimeout(0)  # set_wakeup_fd asks for one that never waits
        previous = signal.set_wakeup_fd(signals.fileno())
        try:
            return _read_while(descriptor, signalled, limit_bytes)
        finally:
            signal.set_wakeup_fd(previous)


def _read_while(descriptor: int, signalled: socket.socket, limit_bytes: int) -> bytes:
    either = select.poll()
    for each in (descriptor, signalled):
        either.register(each, select.POLLIN)
    data = bytearray()
    while len(data) < limit_bytes:
        ready = [number for number, _ in either.poll()]  # a signal's handler runs right behind this call
        if signalled.fileno() in ready:
            signalled.recv(_READ_AT_ONCE_BYTES)  # that handler did not end the reading
        if descriptor in ready:
            part = os.read(descriptor, min(_READ_AT_ONCE_BYTES, limit_bytes - len(data)))
            if not part:
                break
            data += part
    return bytes(data)
