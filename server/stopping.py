"""Why and when a process ends. Knows not what it does until then."""

import asyncio
import signal
from collections.abc import Callable

import structlog

_log = structlog.get_logger(__name__)


class Stop:
    """The wish to end: the first one counts, also when there are more.

    Attributes:
        failure: what went wrong, in one line; empty: the end was asked for.
    """

    def __init__(self) -> None:
        self.failure = ""
        self._requested = asyncio.Event()

    def request(self, *, failure: str = "") -> None:
        """Begin the end; `failure` says what went wrong."""
        self.failure = self.failure or failure
        self._requested.set()

    async def wait(self) -> None:
        """Return when the end was requested."""
        await self._requested.wait()

    def obey_signals(self, *, force: Callable[[], None]) -> None:
        """Begin the end on SIGTERM or SIGINT; call `force` when another signal comes after that."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number, force)

    def _on_signal(self, number: signal.Signals, force: Callable[[], None]) -> None:
        if self._requested.is_set():
            _log.warning("forced to stop", signal=number.name)
            force()
        else:
            _log.info("stopping", signal=number.name)
            self.request()
