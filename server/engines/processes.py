"""Starts engines' processes: asks `server.engines.zygote` to fork. Knows no model and no message of an engine."""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from typing import Self

from server.errors import StartError

PROGRAM = "server.engines.zygote"
_FORKED = struct.Struct("<I")
_STOP_SECONDS = 5.0


class EngineProcesses:
    """A process that has imported PyTorch, and forks an engine whenever it is asked.

    Entering starts it without waiting for its imports. Leaving ends it; engines outlive it.
    """

    async def __aenter__(self) -> Self:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(0)
        self._turn = asyncio.Lock()
        with theirs:
            self._process = _spawn(theirs)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._control.close()
        process = os.pidfd_open(self._process.pid)
        await end(process, within_seconds=_STOP_SECONDS)
        os.close(process)
        self._process.wait()

    async def start(self, settings: Mapping[str, object], *, server: socket.socket, memory: int) -> int:
        """Start an engine and return its process's number.

        Args:
            settings: for `server.engines.worker.run`.
            server: the engine's end of its connection; stays the caller's to close.
            memory: descriptor of the shared batches.

        Raises:
            StartError: the process that forks is gone.
        """
        async with self._turn:
            try:
                socket.send_fds(self._control, [json.dumps(settings).encode()], [server.fileno(), memory])
                reply = await asyncio.get_running_loop().sock_recv(self._control, _FORKED.size)
            except OSError:
                reply = b""
        if not reply:
            raise StartError("the process that starts engines died; see the log above")
        [pid] = _FORKED.unpack(reply)
        return int(pid)


async def end(process: int, *, within_seconds: float) -> None:
    """Wait until a process, by its descriptor, that was told to end has done so; kill it when it takes too long."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process, ended.set)  # the descriptor of a process is readable when it has ended
    try:
        async with asyncio.timeout(within_seconds):
            await ended.wait()
    except TimeoutError:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        await ended.wait()
    finally:
        loop.remove_reader(process)


def _spawn(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    # Not asyncio's: that forks, which gRPC's threads do not like; this starts the program without a fork.
    return subprocess.Popen(
        [sys.executable, "-m", PROGRAM], stdin=theirs.fileno(), stdout=sys.stderr, env=_environment()
    )


def _environment() -> dict[str, str]:
    """Return the process's environment: what the user set, and what makes forward passes fast where nothing is set."""
    return {
        # Activations of some MiB come and go with every pass. By default each is mapped and unmapped, and the
        # kernel clears its pages: up to 40 % of a pass.
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        **os.environ,
    }
