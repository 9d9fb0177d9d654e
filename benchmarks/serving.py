"""`make bench`: how near the server comes to what the machine can do.

Starts the real server with default settings, an echo server, and bare forward passes, one after the
other; every figure stands beside its ceiling from the same run. Prints a table, writes
`benchmarks/results/serving.json` and pictures.

    python -m benchmarks.serving [--repeats 3] [--only NAME]...
"""

import argparse
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from benchmarks import usage
from benchmarks.load import PREDICT, PREDICT_STREAM, background_load, grpc_body, require_h2load, run_load
from benchmarks.running import ENVIRONMENT, ROOT, running_server
from cifarserve.v1 import classifier_pb2 as pb
from models.repository import Repository
from models.verification import read_card

RESULTS = Path(__file__).parent / "results"

_LONE_REQUESTS = 1500
_LOADED_SECONDS = 3.0
_STREAM_MESSAGES = 2000
_IDLE_SECONDS = 5.0


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, the ceiling it is held against, and the bound it should keep."""

    name: str
    measured: float
    ceiling: float
    unit: str
    ratio: float
    bound: str
    met: bool


@dataclass(frozen=True)
class Endpoint:
    """A server under load: the real one or the echo."""

    address: str
    pid: int


@dataclass(frozen=True)
class Bodies:
    """Framed requests of each kind."""

    rgb: bytes
    png: bytes
    photo: bytes
    batch: bytes
    batch_default: bytes
    stream: bytes


def make_bodies() -> Bodies:
    """Build the requests; the pictures are drawn, so that the benchmark needs no data set."""
    gradient = Image.linear_gradient("L").resize((4000, 3000))
    photograph = Image.merge(
        "RGB", (gradient, gradient.rotate(180), gradient.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    )
    noise = Image.effect_noise((32, 32), 60).convert("RGB")
    rgb = pb.Image(rgb=noise.tobytes())
    lone = pb.PredictRequest(model="quick", images=[rgb])
    return Bodies(
        rgb=grpc_body([lone.SerializeToString()]),
        png=_body(pb.Image(encoded=_encoded(noise, "PNG"))),
        photo=_body(pb.Image(encoded=_encoded(photograph, "JPEG"))),
        batch=grpc_body([pb.PredictRequest(model="quick", images=[rgb] * 64).SerializeToString()]),
        batch_default=grpc_body([pb.PredictRequest(images=[rgb] * 64).SerializeToString()]),
        stream=grpc_body([lone.SerializeToString()] * _STREAM_MESSAGES),
    )


def _body(image: pb.Image) -> bytes:
    return grpc_body([pb.PredictRequest(model="quick", images=[image]).SerializeToString()])


def _encoded(image: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, quality=92)
    return buffer.getvalue()


@contextmanager
def echo_server() -> Iterator[Endpoint]:
    """Run the echo for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.echo"], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        yield Endpoint(f"127.0.0.1:{port}", process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def loaded(endpoint: Endpoint, body: bytes, in_flight: int, method: str = PREDICT) -> float:
    """Return requests per second over about three seconds, after a warm-up."""
    requests = _requests_of_some_seconds(endpoint, body, in_flight, method)
    return run_load(endpoint.address, method, body, requests=requests, in_flight=in_flight).per_second


def _requests_of_some_seconds(endpoint: Endpoint, body: bytes, in_flight: int, method: str) -> int:
    """Return how many requests take about three seconds; the endpoint is warm afterwards."""
    requests = in_flight
    for seconds in (_LOADED_SECONDS / 3, _LOADED_SECONDS):  # the first few requests are slower than all others
        trial = run_load(endpoint.address, method, body, requests=requests, in_flight=in_flight)
        requests = max(in_flight, int(trial.per_second * seconds))
    return requests


def loaded_with_cpu(endpoint: Endpoint, body: bytes, in_flight: int) -> tuple[float, float]:
    """Return requests per second, and the endpoint's CPU seconds per 1,000 requests."""
    requests = _requests_of_some_seconds(endpoint, body, in_flight, PREDICT)
    before = usage.cpu_seconds(endpoint.pid)
    result = run_load(endpoint.address, PREDICT, body, requests=requests, in_flight=in_flight)
    return result.per_second, (usage.cpu_seconds(endpoint.pid) - before) / requests * 1000


def measure_once(bodies: Bodies) -> dict[str, float]:
    """Take every figure once: ceilings first, then the server, within minutes of each other."""
    figures: dict[str, float] = {}
    for model in ("quick", "whitened"):
        forward = _bare_forward(read_card(Repository(ROOT / "models/pretrained").folder(model)).architecture)
        figures[f"forward_{model}_images_per_second"] = forward["images_per_second"]
        figures[f"forward_{model}_lone_ms"] = forward["lone_seconds"] * 1000
    with echo_server() as echo:
        figures |= {f"echo_{name}": value for name, value in _measure_rpc(echo, bodies).items()}
    started = time.perf_counter()
    with running_server() as server:
        endpoint = Endpoint(server.address, server.process.pid)
        figures["start_seconds"] = time.perf_counter() - started
        figures |= {f"server_{name}": value for name, value in _measure_rpc(endpoint, bodies).items()}
        figures |= _measure_server(endpoint, bodies)
    return figures


def _bare_forward(architecture: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.ceilings", architecture]
    output = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout
    return {name: value for name, value in json.loads(output).items() if isinstance(value, float)}


def _measure_rpc(endpoint: Endpoint, bodies: Bodies) -> dict[str, float]:
    """Figures that the echo has too."""
    lone = run_load(endpoint.address, PREDICT, bodies.rgb, requests=_LONE_REQUESTS, in_flight=1)
    per_second, cpu = loaded_with_cpu(endpoint, bodies.rgb, 128)
    return {
        "lone_p50_ms": lone.p50_ms,
        "lone_p99_ms": lone.p99_ms,
        "rgb_16": loaded(endpoint, bodies.rgb, 16),
        "rgb_128": per_second,
        "rgb_512": loaded(endpoint, bodies.rgb, 512),
        "cpu_seconds_per_1000": cpu,
        "stream": _STREAM_MESSAGES
        * run_load(endpoint.address, PREDICT_STREAM, bodies.stream, requests=8, in_flight=2).per_second,
    }


def _measure_server(endpoint: Endpoint, bodies: Bodies) -> dict[str, float]:
    """Figures that only the server has."""
    figures = {
        "png_128": loaded(endpoint, bodies.png, 128),
        "photo_16": loaded(endpoint, bodies.photo, 16),
        "batch_quick_images": 64 * loaded(endpoint, bodies.batch, 8),
        "batch_default_images": 64 * loaded(endpoint, bodies.batch_default, 4),
    }
    alone = run_load(endpoint.address, PREDICT, bodies.rgb, requests=_LONE_REQUESTS, in_flight=4)
    with background_load(endpoint.address, PREDICT, bodies.photo, in_flight=2):
        beside = run_load(endpoint.address, PREDICT, bodies.rgb, requests=_LONE_REQUESTS, in_flight=4)
    figures |= {"mixed_alone_p99_ms": alone.p99_ms, "mixed_beside_p99_ms": beside.p99_ms}
    figures["rss_mib"] = usage.rss_mib(endpoint.pid)
    before = usage.cpu_seconds(endpoint.pid)
    time.sleep(_IDLE_SECONDS)
    figures["idle_cpu_share"] = (usage.cpu_seconds(endpoint.pid) - before) / _IDLE_SECONDS
    return figures


def rows(figures: dict[str, float]) -> list[Row]:
    """Hold each figure against its ceiling."""

    def at_least(name: str, measured: str, ceiling: str, unit: str, bound: float) -> Row:
        ratio = figures[measured] / figures[ceiling]
        return Row(
            name, figures[measured], figures[ceiling], unit, ratio, f">= {bound}" if bound else "", ratio >= bound
        )

    def at_most(name: str, measured: float, ceiling: float, unit: str, bound: float) -> Row:
        ratio = measured / ceiling
        return Row(name, measured, ceiling, unit, ratio, f"<= {bound}", ratio <= bound)

    lone_ceiling = figures["echo_lone_p50_ms"] + figures["forward_quick_lone_ms"] + 0.30
    return [
        at_most("lone request, p50, over echo + forward + 0.30 ms", figures["server_lone_p50_ms"], lone_ceiling, "ms", 1.0),
        at_least("16 in flight, over echo", "server_rgb_16", "echo_rgb_16", "requests/s", 0.0),
        at_least("128 in flight, over echo", "server_rgb_128", "echo_rgb_128", "requests/s", 0.80),
        at_least("512 in flight, over echo", "server_rgb_512", "echo_rgb_512", "requests/s", 0.0),
        at_most("CPU per 1,000 images at 128, over echo", figures["server_cpu_seconds_per_1000"], figures["echo_cpu_seconds_per_1000"], "s", 1.8),
        at_least("PNG at 128 in flight, over rgb", "png_128", "server_rgb_128", "requests/s", 0.70),
        at_least("12-megapixel JPEG at 16 in flight", "photo_16", "photo_16", "requests/s", 0.0),
        at_least("64 images a request, quick, over bare forward", "batch_quick_images", "forward_quick_images_per_second", "images/s", 0.70),
        at_least("64 images a request, default, over bare forward", "batch_default_images", "forward_whitened_images_per_second", "images/s", 0.90),
        at_least("messages on streams, over requests at 128", "server_stream", "server_rgb_128", "messages/s", 1.3),
        at_most("small requests' p99 beside 12-megapixel JPEGs, over alone", figures["mixed_beside_p99_ms"], figures["mixed_alone_p99_ms"], "ms", 3.0),
        at_most("CPU when idle, share of a core", figures["idle_cpu_share"], 1.0, "cores", 0.01),
    ]  # fmt: skip


def print_rows(table: list[Row]) -> None:
    """Print the rows for a person."""
    print(f"\n{'figure':58} {'measured':>10} {'ceiling':>10} {'unit':11} {'ratio':>6}  bound")
    for row in table:
        mark = "" if row.met else "  MISSED"
        print(
            f"{row.name:58} {row.measured:10,.2f} {row.ceiling:10,.2f} {row.unit:11} {row.ratio:6.2f}  {row.bound}{mark}"
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="the server against its ceilings")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many runs is reported")
    flags = parser.parse_args()
    require_h2load()
    bodies = make_bodies()
    runs = []
    for number in range(flags.repeats):
        runs.append(measure_once(bodies))
        print(f"run {number + 1} of {flags.repeats} done", file=sys.stderr)
    figures = {name: median(run[name] for run in runs) for name in runs[0]}
    table = rows(figures)
    print_rows(table)
    print(f"ready after {figures['start_seconds']:.1f} s, {figures['rss_mib']:.0f} MiB with both models loaded")
    RESULTS.mkdir(exist_ok=True)
    report = {"machine": usage.machine(), "rows": [asdict(row) for row in table], "figures": figures, "runs": runs}
    (RESULTS / "serving.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
