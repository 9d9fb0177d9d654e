"""A real server process for as long as a block lasts."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}

_START_SECONDS = 60
_STOP_SECONDS = 60


@dataclass(frozen=True)
class RunningServer:
    """Where a server listens, and its process."""

    address: str
    metrics_url: str
    process: "subprocess.Popen[str]"


@contextmanager
def running_server(*flags: str, show: Callable[[str], None] | None = None) -> Iterator[RunningServer]:
    """Start `python -m server` on free ports with `flags`; stop it with SIGTERM and wait for its drain.

    Args:
        flags: further flags of the server.
        show: is given each line of its log.

    Raises:
        RuntimeError: the server ended before it was ready, or with a status that is not 0.
    """
    command = [sys.executable, "-m", "server", "--port", "0", "--metrics-port", "0", "--log-format", "json", *flags]
    # Its access log, on standard output, is of no interest here.
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        ready: Queue[dict[str, str]] = Queue()
        reader = threading.Thread(target=_read_log, args=(process, ready, show))
        reader.start()
        try:
            entry = ready.get(timeout=_START_SECONDS)
            if not entry:
                raise RuntimeError("the server ended before it was ready")
            yield RunningServer(entry["address"], entry["metrics"], process)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=_STOP_SECONDS)
            reader.join()
    if status:
        raise RuntimeError(f"the server exited with status {status}")


def _read_log(
    process: "subprocess.Popen[str]", ready: "Queue[dict[str, str]]", show: Callable[[str], None] | None
) -> None:
    """Pass on every line; hand over the one that says where the server listens, or nothing at the end."""
    for line in process.stderr or ():
        entry = json.loads(line) if line.startswith("{") else {"event": line.strip()}
        if show is not None:
            show(_one_line(entry))
        if entry["event"] == "ready":
            ready.put(entry)
    ready.put({})


def _one_line(entry: dict[str, str]) -> str:
    hidden = ("event", "timestamp", "level")
    return " ".join([entry["event"], *(f"{key}={value}" for key, value in entry.items() if key not in hidden)])
