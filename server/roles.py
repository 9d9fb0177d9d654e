"""What a server process does in its own way when it is alone, and in another when it is one of several."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import structlog

from server.metrics import Metrics, metrics_page
from server.settings import ServerSettings
from server.stopping import Stop

_FORCED_EXIT_STATUS = 1

_log = structlog.get_logger(__name__)


class Role(Protocol):
    """The process's part: `Alone`, or `server.worker.Worker`."""

    @property
    def is_shared(self) -> bool:
        """Whether the port and the metrics page are shared with other processes."""

    def obey(self, stop: Stop) -> None:
        """Request `stop` when the process is told to end; called once, in the event loop."""

    def showing(self, metrics: Metrics) -> AbstractContextManager[str]:
        """Show the metrics inside; yields the page's address, empty when it is not this process's."""

    def say_ready(self, *, address: str, metrics: str) -> None:
        """Say that requests are answered at `address`, and where the metrics page is."""


class Alone:
    """The only process of a server: has its own metrics page, and ends on signals."""

    is_shared = False

    def __init__(self, settings: ServerSettings) -> None:
        self._host = settings.host
        self._metrics_port = settings.metrics_port

    def obey(self, stop: Stop) -> None:
        """Begin the end on a signal; a second one ends the process at once."""
        stop.obey_signals(force=lambda: os._exit(_FORCED_EXIT_STATUS))

    @contextlib.contextmanager
    def showing(self, metrics: Metrics) -> Iterator[str]:
        """Serve the page; raises StartError when its port is taken."""
        with metrics_page(metrics.registry, host=self._host, port=self._metrics_port) as address:
            yield address

    def say_ready(self, *, address: str, metrics: str) -> None:
        """Log it."""
        _log.info("ready", address=address, metrics=metrics)
