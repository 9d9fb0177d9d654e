"""Load from outside: h2load, a C program (Debian: nghttp2-client), posts gRPC messages over HTTP/2.

It takes a tenth of the CPU that a Python client would, so that the server is measured and not the
client. h2load counts every HTTP 200 as a success, and a gRPC failure is one too: the callers check
the server's own counters.
"""

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

PREDICT = "/cifarserve.v1.ClassifierService/Predict"
PREDICT_STREAM = "/cifarserve.v1.ClassifierService/PredictStream"


@dataclass(frozen=True)
class LoadResult:
    """What one run of the load saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    reply_bytes: float

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def require_h2load() -> None:
    """Exit with what to install when h2load is absent."""
    if shutil.which("h2load") is None:
        raise SystemExit("the benchmark needs h2load: apt-get install nghttp2-client")


def grpc_body(messages: Iterable[bytes]) -> bytes:
    """Frame messages as gRPC does: a zero byte (not compressed), the length as 4 bytes, the message."""
    return b"".join(struct.pack(">BI", 0, len(message)) + message for message in messages)


def run_load(address: str, method: str, body: bytes, *, requests: int, in_flight: int) -> LoadResult:
    """Send `requests` times `body`, `in_flight` at once over at most 8 connections; return what was seen.

    Raises:
        RuntimeError: a request was not answered with HTTP 200.
    """
    with tempfile.TemporaryDirectory() as folder:
        command, log = _command(address, method, body, Path(folder), in_flight=in_flight)
        output = subprocess.run([*command, f"--requests={requests}"], check=True, capture_output=True, text=True).stdout
        milliseconds = [int(line.split("\t")[2]) / 1000 for line in log.read_text().splitlines()]
    succeeded = int(_find(r"(\d+) succeeded", output))
    if succeeded != requests:
        raise RuntimeError(f"expected {requests} answers, got {succeeded}:\n{output}")
    cuts = quantiles(milliseconds, n=100)
    return LoadResult(
        requests=requests,
        seconds=_seconds(_find(r"finished in ([\d.]+m?s|[\d.]+us)", output)),
        p50_ms=cuts[49],
        p99_ms=cuts[98],
        reply_bytes=float(_find(r"\((\d+)\) data", output)) / requests,
    )


@contextmanager
def background_load(address: str, method: str, body: bytes, *, in_flight: int) -> Iterator[None]:
    """Keep `in_flight` requests going for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        command, _ = _command(address, method, body, Path(folder), in_flight=in_flight)
        process = subprocess.Popen([*command, "--requests=1000000"], stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _command(address: str, method: str, body: bytes, folder: Path, *, in_flight: int) -> tuple[list[str], Path]:
    (folder / "body").write_bytes(body)
    connections = min(in_flight, 8)
    log = folder / "log"
    command = [
        "h2load",
        f"--clients={connections}",
        f"--max-concurrent-streams={in_flight // connections}",
        f"--data={folder / 'body'}",
        f"--log-file={log}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        f"http://{address}{method}",
    ]
    return command, log


def _find(pattern: str, output: str) -> str:
    found = re.search(pattern, output)
    if found is None:
        raise RuntimeError(f"h2load printed nothing like {pattern!r}:\n{output}")
    return found.group(1)


def _seconds(text: str) -> float:
    for unit, factor in (("us", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(f"expected a duration such as 1.5s, got {text!r}")
