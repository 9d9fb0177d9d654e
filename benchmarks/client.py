"""How much of a server's capacity the command line uses: `cifarserve predict` on 10,000 files, over the fastest load.

    python -m benchmarks.client [--repeats 3]

The capacity is what the server answered to h2load, a C program, with the same pictures, many in a
request: the fastest of a few ways to send them. Then `cifarserve predict` classifies a folder of the
same 10,000 pictures, and its whole time counts, from the start of its process to its end. Both see the
same server, one after the other; the medians of the repeats are compared.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from benchmarks import usage
from benchmarks.cifar10 import find_cifar10, read_test_images
from benchmarks.load import PREDICT, grpc_body, require_h2load, run_load
from benchmarks.running import ENVIRONMENT, running_server
from cifarserve.v1 import classifier_pb2 as pb

RESULTS = Path(__file__).parent / "results" / "client.json"

_MODELS = ("whitened", "quick")  # the default, and the fastest
_BOUND = 0.8
_SECONDS = 3.0  # of load for each way to send
_WAYS = ((64, 4), (64, 8), (128, 4), (256, 4))  # pictures in a request, requests in flight


@dataclass(frozen=True)
class Row:
    """What the command line reached of one model's capacity."""

    model: str
    capacity_images_per_second: float
    pictures_in_a_request: int
    requests_in_flight: int
    predict_images_per_second: float
    predict_cpu_seconds: float
    ratio: float
    met: bool


@dataclass(frozen=True)
class Capacity:
    """The fastest load that a server took, and how it was sent."""

    images_per_second: float
    pictures_in_a_request: int
    requests_in_flight: int


def write_pictures(folder: Path, rgb: tuple[bytes, ...]) -> list[bytes]:
    """Write each picture as a PNG file, named in their order; return the files' bytes."""
    return [_write(folder / f"{number:05}.png", pixels) for number, pixels in enumerate(rgb)]


def _write(path: Path, pixels: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (32, 32), pixels).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def measure_capacity(address: str, pictures: list[bytes], *, model: str) -> Capacity:
    """Return the fastest of the ways to send the pictures."""
    return max(_loads(address, pictures, model=model), key=lambda capacity: capacity.images_per_second)


def _loads(address: str, pictures: list[bytes], *, model: str) -> Iterator[Capacity]:
    for size, in_flight in _WAYS:
        request = pb.PredictRequest(model=model, top_k=3, images=[pb.Image(encoded=file) for file in pictures[:size]])
        body = grpc_body([request.SerializeToString()])
        trial = run_load(address, PREDICT, body, requests=8 * in_flight, in_flight=in_flight)
        requests = max(in_flight, int(trial.per_second * _SECONDS))
        result = run_load(address, PREDICT, body, requests=requests, in_flight=in_flight)
        yield Capacity(result.per_second * size, size, in_flight)


def measure_predict(address: str, folder: Path, *, model: str, pictures: int) -> tuple[float, float]:
    """Return the pictures per second of `cifarserve predict`, its start included, and the CPU seconds that it used.

    Raises:
        RuntimeError: not every picture has a line with a label.
    """
    command = [sys.executable, "-m", "client", "--target", address, "predict", "--model", model, str(folder)]
    with tempfile.TemporaryFile("w+") as output:
        started, used_before = time.perf_counter(), _children_cpu_seconds()
        status = subprocess.run(command, env=ENVIRONMENT, stdout=output, check=False).returncode
        seconds, used = time.perf_counter() - started, _children_cpu_seconds() - used_before
        output.seek(0)
        lines = sum("%" in line for line in output)
    if status or lines != pictures:
        raise RuntimeError(f"expected {pictures} lines with labels and status 0, got {lines} and status {status}")
    return pictures / seconds, used


def _children_cpu_seconds() -> float:
    """Return the CPU seconds of the processes that ended and were waited for."""
    usage_of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage_of_children.ru_utime + usage_of_children.ru_stime


def measure(address: str, folder: Path, pictures: list[bytes], *, model: str, repeats: int) -> Row:
    """Measure capacity and command line in turns."""
    capacities, rates, used = [], [], []
    for _ in range(repeats):
        capacities.append(measure_capacity(address, pictures, model=model))
        rate, cpu_seconds = measure_predict(address, folder, model=model, pictures=len(pictures))
        rates.append(rate)
        used.append(cpu_seconds)
    best = sorted(capacities, key=lambda capacity: capacity.images_per_second)[len(capacities) // 2]
    ratio = median(rates) / best.images_per_second
    return Row(
        model,
        best.images_per_second,
        best.pictures_in_a_request,
        best.requests_in_flight,
        median(rates),
        median(used),
        ratio,
        ratio >= _BOUND,
    )


def print_rows(rows: list[Row]) -> None:
    """Print the rows for a person."""
    titles = ("capacity", "a request", "in flight", "predict", "CPU", "ratio")
    print(f"{'model':10}", *(f"{title:>10}" for title in titles), " bound")
    for row in rows:
        mark = "" if row.met else "  MISSED"
        print(
            f"{row.model:10} {row.capacity_images_per_second:8,.0f}/s {row.pictures_in_a_request:10}"
            f" {row.requests_in_flight:10} {row.predict_images_per_second:8,.0f}/s {row.predict_cpu_seconds:8.2f} s"
            f" {row.ratio:10.2f}  >= {_BOUND}{mark}"
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="cifarserve predict on 10,000 files over the server's capacity")
    parser.add_argument("--repeats", type=int, default=3, help="the medians of so many runs are compared")
    flags = parser.parse_args()
    require_h2load()
    cifar10 = find_cifar10()
    if cifar10 is None:
        raise SystemExit("the CIFAR-10 data set is not at hand: set CIFAR10_DATA")
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        folder = Path(name)
        pictures = write_pictures(folder, read_test_images(cifar10).rgb)
        rows = [measure(server.address, folder, pictures, model=model, repeats=flags.repeats) for model in _MODELS]
    print_rows(rows)
    report = {"machine": usage.machine(), "pictures": len(pictures), "rows": [asdict(row) for row in rows]}
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
