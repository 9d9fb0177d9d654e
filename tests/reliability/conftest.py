"""What every promise's test shares: short or full, where its figure goes, and one server that is not hurt."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from benchmarks.running import RunningServer, running_server
from tests.conftest import ROOT
from tests.reliability import page
from tests.reliability.page import Row
from tests.server.process import metric_on

_FULL_TEST_SECONDS = 240

_Size = TypeVar("_Size")
_rows = pytest.StashKey[list[Row]]()


@dataclass(frozen=True)
class Scale:
    """Whether tests run in full, minutes each, or for a few seconds.

    Ratios of latencies are asserted only in full runs, which have the machine to themselves.
    """

    full: bool

    def choose(self, *, short: _Size, full: _Size) -> _Size:
        """Return the size that goes with this run."""
        return full if self.full else short


class Figure:
    """Takes a test's result for `docs/reliability.md`."""

    def __init__(self, test: str, rows: list[Row]) -> None:
        self._test = test
        self._rows = rows

    def __call__(self, *, promise: str, tested: str, value: str) -> None:
        """Record one row.

        Args:
            promise: what the user is promised, one short sentence.
            tested: how it is tested, with the amounts of this run.
            value: what was measured, with units.
        """
        self._rows.append(Row(self._test, promise, tested, value))


@dataclass(frozen=True)
class SharedServer:
    """The shipped `quick`, served by a real process; for tests that leave it as they found it."""

    address: str
    pid: int
    metrics_url: str

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry `labels`."""
        return metric_on(self.metrics_url, name, **labels)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="reliability tests at full length; writes their figures")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_rows] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _is_full(config):
        for item in items:
            item.add_marker(pytest.mark.timeout(_FULL_TEST_SECONDS))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _is_full(session.config) and (rows := session.config.stash[_rows]):
        page.save(list(rows))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not _is_full(config):
        return
    terminalreporter.section("figures")
    for row in config.stash[_rows]:
        terminalreporter.write_line(f"{row.promise}: {row.figure}")


def _is_full(config: pytest.Config) -> bool:
    return bool(config.getoption("--full", default=False))


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    """Whether this run is short or full."""
    return Scale(_is_full(request.config))


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Takes what the test measured."""
    return Figure(request.node.nodeid.removeprefix("tests/reliability/"), request.config.stash[_rows])


@pytest.fixture(scope="session")
def quick_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the shipped `quick` alone: one engine, which starts fast."""
    path = tmp_path_factory.mktemp("quick")
    shutil.copytree(ROOT / "models/pretrained/quick", path / "quick")
    return path


@pytest.fixture(scope="session")
def shared_process(quick_repository: Path) -> Iterator[RunningServer]:
    """The process behind `server`; at the end it must drain and exit 0, whatever was done to it."""
    with running_server("--repository", str(quick_repository)) as running:
        yield running


@pytest.fixture
def server(shared_process: RunningServer) -> SharedServer:
    """One server for all tests that neither end it nor need flags of their own."""
    return SharedServer(shared_process.address, shared_process.process.pid, shared_process.metrics_url)
