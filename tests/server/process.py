"""A real server process on free ports, for tests that drive it from outside."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parent.parent.parent


_PATIENCE_SECONDS = 90.0  # a start warms up every batch size, beside whatever else a busy machine does


@dataclass
class ServerProcess:
    """A running `python -m server`: its addresses, its log, and ways to end it."""

    process: asyncio.subprocess.Process
    address: str = ""
    metrics_url: str = ""
    log: list[dict[str, object]] = field(default_factory=list)

    async def read_log(self, until: str) -> dict[str, object]:
        """Read log lines up to the one whose event is `until`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while line := await self.process.stderr.readline():
                entry = json.loads(line) if line.startswith(b"{") else {"event": line.decode().strip()}
                self.log.append(entry)
                if entry["event"] == until:
                    return entry
        raise AssertionError(f"the server ended before {until!r}: {self.log[-3:]}")

    async def read_on(self) -> int:
        """Read the log as it comes until the server ends, so that one that says much is not held up; its status."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log += [json.loads(line)] if line.startswith(b"{") else []
        return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, read the rest of the log, return the exit status."""
        self.process.send_signal(number)
        return await self.wait()

    async def wait(self) -> int:
        """Read the rest of the log and return the exit status."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            _, rest = await self.process.communicate()
        self.log += [json.loads(line) for line in rest.splitlines() if line.startswith(b"{")]
        assert self.process.returncode is not None
        return self.process.returncode

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry `labels`."""
        return metric_on(self.metrics_url, name, **labels)


def metric_on(metrics_url: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that carry `labels`, on the page at `metrics_url`."""
    with urllib.request.urlopen(metrics_url) as page:  # noqa: S310  # a page of our own
        families = text_string_to_metric_families(page.read().decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@dataclass(frozen=True)
class Ended:
    """A server that ended by itself: its exit status, its log, and how long it took."""

    status: int
    log: str
    seconds: float

    @property
    def last_line(self) -> str:
        """What it said at the end."""
        return self.log.strip().splitlines()[-1]


def run_to_its_end(*flags: str | Path) -> Ended:
    """Run a server that is expected to end by itself."""
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "server", "--port", "0", "--metrics-port", "0", *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(result.returncode, result.stderr, time.monotonic() - started)


def engines_of(pid: int) -> list[int]:
    """Return the numbers of the engines of the server `pid`, the newest last: children of its only child."""
    [zygote] = children_of(pid)
    return children_of(zygote)


def children_of(pid: int) -> list[int]:
    """Return the numbers of a process's children, the newest last."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@asynccontextmanager
async def running_server(
    *flags: str | Path,
    wait_until: str = "ready",
    program: str = "server",
    stdout: int | IO[bytes] = asyncio.subprocess.DEVNULL,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[ServerProcess]:
    """Start the server with `flags`, yield it when it logged `wait_until`, and leave no process behind."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", program, "--port", "0", "--metrics-port", "0", "--log-format", "json", *map(str, flags),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "OMP_NUM_THREADS": "1", **environment},
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    server = ServerProcess(process)
    try:
        entry = await server.read_log(wait_until)
        server.address = str(entry.get("address", ""))
        server.metrics_url = str(entry.get("metrics", ""))
        yield server
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
