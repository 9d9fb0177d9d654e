"""The engine on this machine: a process of its own that computes, and its handle in the server.

The server's process never imports torch. A forward pass therefore never waits for the event loop's
thread (they would share one interpreter lock), and a crash of the one is not the end of the other.
"""

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Self

from models.errors import CheckpointDamaged, Fault
from models.preprocessing import IMAGE_BYTES
from server.engines import EngineInfo, Pixels, Scores
from server.engines.processes import EngineProcesses, end
from server.engines.shared import SharedBatches, Slot
from server.errors import DeviceOutOfMemory, EngineFailed, EngineLost, StartError

REQUEST = struct.Struct("<BI")  # slot, number of pictures
REPLY = struct.Struct("<BB")  # slot, what became of it
COMPUTED, RAISED, OUT_OF_MEMORY, DEVICE_FAILED = range(4)  # what became of a batch; after the last the process ends
READY, REFUSED, FAILED = b"R", b"D", b"F"  # first byte of the first message: info, damaged model, no device
_STOP_SECONDS = 2.0  # a pass takes milliseconds: what has not ended then hangs


@dataclass(frozen=True)
class LocalEngineSettings:
    """What the process is told at its start.

    Attributes:
        folder: a version's folder.
        device: auto, cpu or cuda[:n].
        precision: auto, fp32 or bf16.
        compile: also try networks that TorchInductor has compiled.
        lanes: how many batches are computed at the same time, each in one thread.
        max_batch_size: the largest batch that will be given.
        log_format: console or json.
        log_level: the least severe line to log.
        quiet: load and warm up with what the processor has left; computing is not affected.
    """

    folder: str
    device: str
    precision: str
    compile: bool
    lanes: int
    max_batch_size: int
    log_format: str
    log_level: str
    quiet: bool = False


class Death(NamedTuple):
    """How a process ended by itself: why, and whether another one would fare no better."""

    reason: str
    fatal: bool


class LocalEngine:
    """Computes batches of one version in a process of its own; one batch more than it has lanes may be under way."""

    def __init__(
        self,
        settings: LocalEngineSettings,
        processes: EngineProcesses,
        *,
        on_death: Callable[[Death], None],
        measured: EngineInfo | None = None,
    ) -> None:
        """Nothing runs before the engine is entered.

        Args:
            settings: what the process is told.
            processes: starts the process.
            on_death: is told once if the process ends by itself.
            measured: what an earlier process found out, so that this one is ready sooner.
        """
        self._settings = settings
        self._processes = processes
        self._measured = measured
        self._on_death = on_death
        self._slots = settings.lanes + 1  # while the lanes are busy the next batch is put in place
        self._free = asyncio.Semaphore(self._slots)
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._device_failed = False
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
        self._process = -1
        try:
            with theirs:
                self._pid = await self._start(theirs)
            self._process = os.pidfd_open(self._pid)
            self._info = await self._first_message()
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError) and self._process >= 0:
                signal.pidfd_send_signal(self._process, signal.SIGKILL)  # it would go on loading, for nobody
            await self.__aexit__()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._on_message)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process: it leaves when the socket closes."""
        self._leaving = True
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        if self._process >= 0:
            await end(self._process, within_seconds=_STOP_SECONDS)
            os.close(self._process)
        self._batches.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._pid

    @property
    def info(self) -> EngineInfo:
        """How the process computes."""
        return self._info

    async def predict(self, images: Sequence[Pixels]) -> list[Scores]:
        """Return the scores of each picture: see `Engine.predict`."""
        async with self._free:
            if self._leaving:
                raise EngineLost("the engine's process is gone; try again")
            number = next(number for number in range(self._slots) if number not in self._answers)
            slot = self._batches.slots[number]
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._answers[number] = answer
            try:
                for place, pixels in enumerate(images):
                    slot.pixels[place * IMAGE_BYTES : (place + 1) * IMAGE_BYTES] = pixels
                self._send(REQUEST.pack(number, len(images)))
                await answer
                return _read_scores(slot, len(images))
            finally:
                del self._answers[number]

    async def _start(self, theirs: socket.socket) -> int:
        settings = {**asdict(self._settings), "slots": self._slots, "layout": ""}
        if self._measured is not None:
            settings |= {"precision": self._measured.precision, "layout": self._measured.layout}
        return await self._processes.start(settings, server=theirs, memory=self._batches.descriptor)

    async def _first_message(self) -> EngineInfo:
        message = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
        kind, text = message[:1], message[1:].decode()
        if kind == READY:
            info = json.loads(text)
            if self._measured is not None:
                return self._measured
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
            raise EngineLost("the engine's process is gone; try again") from exc

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
        number, outcome = REPLY.unpack_from(message)
        self._device_failed |= outcome == DEVICE_FAILED
        answer = self._answers.get(number)
        if answer is None or answer.done():
            return
        if outcome == COMPUTED:
            answer.set_result(None)
        elif outcome == OUT_OF_MEMORY:
            answer.set_exception(DeviceOutOfMemory("the picture does not fit into the device's memory"))
        elif outcome == RAISED:
            answer.set_exception(EngineFailed("the model failed on this picture"))

    def _on_end(self) -> None:
        """The process is gone: nobody waits in vain."""
        asyncio.get_running_loop().remove_reader(self._socket)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(EngineLost("the engine's process died while it computed; try again"))
        if not self._leaving:
            reason = "its device failed" if self._device_failed else "its process died"
            self._on_death(Death(reason, fatal=self._device_failed))


def _read_scores(slot: Slot, count: int) -> list[Scores]:
    indices = slot.indices[:count].tolist()
    probabilities = slot.probabilities[:count].tolist()
    return list(map(Scores, indices, probabilities))
