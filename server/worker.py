"""`python -m server.worker FLAGS`, with its socket as standard input: one of several processes behind one port.

Takes its number and the port from `server.workers`, says when it is ready or why it cannot go on, and
drains when the supervisor hangs up, which is also what happens when the supervisor dies.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Iterator

import structlog
import uvloop

from server.app import serve
from server.errors import EngineDied, StartError
from server.logs import configure_logging
from server.metrics import Metrics
from server.settings import ServerSettings
from server.stopping import Stop
from server.workers import FAILED, PLACE_BYTES, READY

_GAUGE_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class Worker:
    """This process as one of several.

    Attributes:
        number: counts from 1.
        port: the one that all listen on.
    """

    is_shared = True

    def __init__(self, supervisor: socket.socket) -> None:
        """Wait to be told the number and the port."""
        place = json.loads(supervisor.recv(PLACE_BYTES))
        self.number = int(place["number"])
        self.port = int(place["port"])
        self._supervisor = supervisor
        self._supervisor.settimeout(0)

    def obey(self, stop: Stop) -> None:
        """Begin the end when the supervisor hangs up."""
        asyncio.get_running_loop().add_reader(self._supervisor, self._on_hang_up, stop)

    @contextlib.contextmanager
    def showing(self, metrics: Metrics) -> Iterator[str]:
        """Keep the gauges fresh; the page is the supervisor's."""
        writing = asyncio.create_task(_write_gauges(metrics), name="write gauges")
        try:
            yield ""
        finally:
            writing.cancel()

    def say_ready(self, *, address: str, metrics: str) -> None:  # noqa: ARG002  # the supervisor knows both
        """Tell the supervisor."""
        _log.info("worker ready")
        self._say(READY)

    def say_failure(self, reason: str) -> None:
        """Tell the supervisor, in one line, why this process ends."""
        self._say(FAILED + reason.encode())

    def _say(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it is gone: the end is near
            self._supervisor.send(message)

    def _on_hang_up(self, stop: Stop) -> None:
        asyncio.get_running_loop().remove_reader(self._supervisor)
        stop.request()


async def _write_gauges(metrics: Metrics) -> None:
    while True:
        metrics.write_watched()
        await asyncio.sleep(_GAUGE_SECONDS)


def main() -> None:
    """Serve until the supervisor hangs up; exit 0 after a drain, 1 when it cannot start or go on."""
    # The supervisor decides when to stop, also when a signal reaches every process of a terminal or a service.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    worker = Worker(socket.socket(fileno=0))
    settings = ServerSettings(_cli_parse_args=sys.argv[1:]).model_copy(update={"port": worker.port})
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    structlog.contextvars.bind_contextvars(worker=worker.number)
    try:
        uvloop.run(serve(settings, worker))
    except (StartError, EngineDied) as exc:
        worker.say_failure(str(exc))
        raise SystemExit(1) from exc


if __name__ == "__main__":
    main()
