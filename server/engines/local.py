"""The engine on this machine: a process of its own that computes, and its handle in the server.

The server's process never imports torch. A forward pass therefore never waits for the event loop's
thread (they would share one interpreter lock), and a crash of the one is not the end of the other.
"""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import structlog

from models.errors import CheckpointDamaged, Fault
from models.preprocessing import IMAGE_BYTES
from server.engines import EngineInfo, Pixels, Scores
from server.engines.shared import SharedBatches, Slot
from server.errors import EngineFailed, StartError

_log = structlog.get_logger(__name__)

REQUEST = struct.Struct("<BI")  # slot, number of pictures
REPLY = struct.Struct("<BB")  # slot, 0 when it went well; else a text follows
READY, REFUSED, FAILED = b"R", b"D", b"F"  # first byte of the first message: info, damaged model, no device
_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class LocalEngineSettings:
    """What the process is told at its start.

    Attributes:
        folder: a version's folder.
        device: auto, cpu or cuda[:n].
        precision: auto, fp32 or bf16.
        lanes: how many batches are computed at the same time, each in one thread.
        max_batch_size: the largest batch that will be given.
        log_format: console or json.
        log_level: the least severe line to log.
        quiet: load and warm up with what the processor has left; computing is not affected.
    """

    folder: str
    device: str
    precision: str
    lanes: int
    max_batch_size: int
    log_format: str
    log_level: str
    quiet: bool = False


class LocalEngine:
    """Computes batches of one version in a process of its own; one batch more than it has lanes may be under way."""

    def __init__(self, settings: LocalEngineSettings, *, on_death: Callable[[str], None]) -> None:
        """Nothing runs before the engine is entered; `on_death` is told once if the process ends by itself."""
        self._settings = settings
        self._on_death = on_death
        self._slots = settings.lanes + 1  # while the lanes are busy the next batch is put in place
        self._free = asyncio.Semaphore(self._slots)
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._leaving = False

    async def __aenter__(self) -> Self:
        """Start the process; it loads, verifies and warms up.

        Raises:
            CheckpointDamaged: the version cannot be loaded.
            StartError: the device is not there, or the process died.
        """
        self._batches = SharedBatches.create(max_batch_size=self._settings.max_batch_size, slots=self._slots)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(0)
        with theirs:
            self._process = self._spawn(theirs)
        try:
            self._info = await self._first_message()
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError):
                self._process.kill()  # it would go on loading for seconds, for nobody
            await self.__aexit__()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._on_message)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process: it leaves when the socket closes."""
        self._leaving = True
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        try:
            await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        os.close(self._batches.descriptor)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def info(self) -> EngineInfo:
        """How the process computes."""
        return self._info

    async def predict(self, images: Sequence[Pixels]) -> list[Scores]:
        """Return the scores of each picture: see `Engine.predict`."""
        async with self._free:
            number = next(number for number in range(self._slots) if number not in self._answers)
            slot = self._batches.slots[number]
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._answers[number] = answer
            try:
                slot.pixels[: len(images) * IMAGE_BYTES] = b"".join(images)
                self._send(REQUEST.pack(number, len(images)))
                await answer
                return _read_scores(slot, len(images))
            finally:
                del self._answers[number]

    def _spawn(self, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        arguments = {**asdict(self._settings), "descriptor": self._batches.descriptor, "slots": self._slots}
        # Not asyncio's: that forks, which gRPC's threads do not like; this starts the program without a fork.
        return subprocess.Popen(
            [sys.executable, "-m", "server.engines.lanes", json.dumps(arguments)],
            stdin=theirs.fileno(),
            stdout=sys.stderr,
            pass_fds=[self._batches.descriptor],
            env=_environment(),
        )

    async def _first_message(self) -> EngineInfo:
        message = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
        kind, text = message[:1], message[1:].decode()
        if kind == READY:
            info = json.loads(text)
            seconds = {int(size): cost for size, cost in info.pop("batch_seconds").items()}
            return EngineInfo(**info, batch_seconds=seconds)
        if kind == REFUSED:
            fault, _, reason = text.partition(" ")
            raise CheckpointDamaged(reason, fault=Fault(fault))
        raise StartError(text or "the engine's process died while it started; see the log above")

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError as exc:
            raise EngineFailed("the engine's process is gone") from exc

    def _on_message(self) -> None:
        try:
            message = self._socket.recv(65_536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            message = b""
        if not message:
            self._on_end()
            return
        number, failed = REPLY.unpack_from(message)
        answer = self._answers.get(number)
        if answer is None or answer.done():
            return
        if failed:
            answer.set_exception(EngineFailed(message[REPLY.size :].decode()))
        else:
            answer.set_result(None)

    def _on_end(self) -> None:
        """The process is gone: nobody waits in vain."""
        asyncio.get_running_loop().remove_reader(self._socket)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(EngineFailed("the engine's process died"))
        if not self._leaving:
            self._on_death(Path(self._settings.folder).parent.name)


def _read_scores(slot: Slot, count: int) -> list[Scores]:
    indices = slot.indices[:count].tolist()
    probabilities = slot.probabilities[:count].tolist()
    return [Scores(*pair) for pair in zip(indices, probabilities, strict=True)]


def _environment() -> dict[str, str]:
    """Return the process's environment: what the user set, and what makes forward passes fast where nothing is set."""
    return {
        # Activations of some MiB come and go with every pass. By default each is mapped and unmapped, and the
        # kernel clears its pages: up to 40 % of a pass.
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        **os.environ,
    }
