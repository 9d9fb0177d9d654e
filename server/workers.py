"""`--workers N`: the supervisor of several server processes behind one port. Knows no gRPC and no model.

Each worker is a whole server: it loads the models, follows the repository by itself, and drains by
itself. The supervisor holds the port, serves the metrics of all, passes on when to end, and ends with
status 1 when a worker ended by itself.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import structlog

from server.cpus import usable_cpus
from server.errors import StartError, WorkerDied
from server.metrics import forget_worker, metrics_page, workers_registry
from server.ports import held_port
from server.settings import ServerSettings
from server.stopping import Stop

PROGRAM = "server.worker"
READY, FAILED = b"R", b"F"  # first byte of what a worker says; after the second comes the reason, in one line
PLACE_BYTES = 1024
_MESSAGE_BYTES = 65_536

_log = structlog.get_logger(__name__)


async def supervise(settings: ServerSettings, flags: Sequence[str]) -> None:
    """Serve with `settings.workers` processes until SIGTERM or SIGINT, then wait for their drains and return.

    A second signal kills them.

    Args:
        settings: what `flags` and the environment say.
        flags: the command line, which every worker gets.

    Raises:
        StartError: there are not so many CPUs, or a port is taken.
        WorkerDied: a worker ended by itself, or could not start; the others were drained.
    """
    _check_cpus(settings.workers)
    stop = Stop()
    with (
        held_port(settings.host, settings.port) as port,
        _metrics_folder() as folder,
        metrics_page(workers_registry(folder), host=settings.host, port=settings.metrics_port) as metrics,
    ):
        workers = Workers(
            [sys.executable, "-m", PROGRAM, *flags],
            count=settings.workers,
            port=port,
            metrics_folder=folder,
            on_ready=lambda: _log.info(
                "ready", address=f"{settings.host}:{port}", metrics=metrics, workers=settings.workers
            ),
            on_failure=lambda reason: stop.request(failure=reason),
        )
        stop.obey_signals(force=workers.kill)
        async with workers:
            await stop.wait()
    _log.info("stopped")
    if stop.failure:
        raise WorkerDied(stop.failure)


class Workers:
    """Entering starts all; leaving tells all to drain, and returns when the last has ended."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        count: int,
        port: int,
        metrics_folder: str,
        on_ready: Callable[[], None],
        on_failure: Callable[[str], None],
    ) -> None:
        """Start nothing yet.

        Args:
            command: starts a worker.
            count: how many.
            port: the one that all listen on.
            metrics_folder: where each writes what it counts.
            on_ready: is told once, when all answer.
            on_failure: is told of each that ended by itself, and why.
        """
        self._command = command
        self._count = count
        self._port = port
        self._metrics_folder = metrics_folder
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._ready = 0
        self._stopping = False
        self._links: list[socket.socket] = []
        self._processes: list[asyncio.subprocess.Process] = []
        self._watching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            for number in range(1, self._count + 1):
                await self._start(number)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        for link in self._links:
            with contextlib.suppress(OSError):  # it has hung up itself
                link.shutdown(socket.SHUT_WR)
        await asyncio.gather(*self._watching)

    def kill(self) -> None:
        """End all at once; what they had accepted is lost."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _start(self, number: int) -> None:
        link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.settimeout(0)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=theirs.fileno(),
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": self._metrics_folder},
                start_new_session=True,  # Ctrl-C is for the supervisor
            )
        self._links.append(link)
        self._processes.append(process)
        self._watching.append(asyncio.create_task(self._watch(number, process, link), name=f"watch worker {number}"))
        with contextlib.suppress(OSError):  # it died already, and its watch will say so
            link.send(json.dumps({"number": number, "port": self._port}).encode())

    async def _watch(self, number: int, process: asyncio.subprocess.Process, link: socket.socket) -> None:
        """Listen to a worker until it ends."""
        reason = ""
        with link:
            while message := await _receive(link):
                if message[:1] == FAILED:
                    reason = message[1:].decode()
                else:
                    self._ready += 1
                    if self._ready == self._count and not self._stopping:
                        self._on_ready()
            status = await process.wait()
        forget_worker(self._metrics_folder, process.pid)
        if status or not self._stopping:
            self._on_failure(reason or f"worker {number} {_how_it_ended(status)}")


async def _receive(link: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(link, _MESSAGE_BYTES)
    except OSError:
        return b""


def _how_it_ended(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended by itself with status {status}"


def _check_cpus(workers: int) -> None:
    cpus = usable_cpus()
    if workers > cpus:
        raise StartError(
            f"--workers {workers}: this process may use {cpus} CPUs; expected 1 to {cpus}, more would only fight"
        )


@contextlib.contextmanager
def _metrics_folder() -> Iterator[str]:
    """Make a folder for as long as the block lasts: in memory where that is possible.

    Raises:
        StartError: there is nowhere to make it.
    """
    memory = Path("/dev/shm")  # noqa: S108  # the folder in it is private; a read-only container can write here
    try:
        folder = tempfile.TemporaryDirectory(
            prefix="cifarserve-metrics-", dir=memory if os.access(memory, os.W_OK) else None
        )
    except OSError as exc:
        raise StartError(f"no folder for the workers' metrics can be made: {exc}; set TMPDIR") from exc
    with folder as path:
        yield path
