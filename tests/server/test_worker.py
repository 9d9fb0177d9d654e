import json
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from server.metrics import Metrics
from server.stopping import Stop
from server.worker import Worker
from server.workers import FAILED, READY
from tests.polling import eventually


class Pair(NamedTuple):
    """A worker, and its supervisor's end of the connection."""

    supervisor: socket.socket
    worker: Worker


@pytest.fixture
def pair() -> Iterator[Pair]:
    supervisor, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with supervisor, theirs:
        supervisor.send(json.dumps({"number": 2, "port": 50051}).encode())
        yield Pair(supervisor, Worker(theirs))


def test_worker_is_told_its_place(pair: Pair) -> None:
    """The number and the port come from the supervisor."""
    assert (pair.worker.number, pair.worker.port) == (2, 50051)


def test_worker_tells_what_becomes_of_it(pair: Pair) -> None:
    """It says that it is ready, and why it ends."""
    pair.worker.say_ready(address="127.0.0.1:50051", metrics="")
    pair.worker.say_failure("repository /nowhere: no such folder")

    assert pair.supervisor.recv(100) == READY
    assert pair.supervisor.recv(100) == FAILED + b"repository /nowhere: no such folder"


async def test_worker_drains_when_the_supervisor_hangs_up(pair: Pair) -> None:
    """A supervisor that is gone, in whatever way, leaves no worker behind."""
    stop = Stop()
    pair.worker.obey(stop)
    pair.supervisor.close()
    await stop.wait()
    pair.worker.say_failure("nobody listens")

    assert not stop.failure


async def test_worker_keeps_its_gauges_fresh(pair: Pair) -> None:
    """What the supervisor's page cannot ask for is written while metrics are shown."""
    metrics = Metrics(is_shared=True)
    metrics.watch_rpcs(lambda: 7)
    with pair.worker.showing(metrics):
        await eventually(lambda: metrics.registry.get_sample_value("cifarserve_rpcs_inside") == 7)
