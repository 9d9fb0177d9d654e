"""`make bench-gpu`: how near the server comes to what the GPU can do.

Runs bare CUDA graphs, then the real server with `--device cuda`; every figure stands beside its ceiling from
the same run. Prints a table and writes `benchmarks/results/gpu.json`. Other flags go to the server, to
measure what they change:

    python -m benchmarks.gpu [--repeats 3] [--max-batch-size 256]...
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import median

import torch
from PIL import Image

from benchmarks import usage
from benchmarks.load import PREDICT, LoadResult, grpc_body, require_h2load, run_load
from benchmarks.running import ENVIRONMENT, ROOT, running_server
from benchmarks.serving import RESULTS, Row, print_rows
from cifarserve.v1 import classifier_pb2 as pb
from models import DEFAULT_MODEL

MODELS = ("quick", DEFAULT_MODEL)

_IMAGES_PER_REQUEST = (64, 256)
_IMAGES_IN_FLIGHT = 2048  # what one model's queue takes by default
_LONE_REQUESTS = 1500
_LOADED_SECONDS = 3.0
_LEAST_RESULT_BYTES = 10  # a refused request is an HTTP success too, without results
_LEAST_RATIO = 0.8


def require_gpu() -> None:
    """Exit with one line when there is no GPU."""
    if not torch.cuda.is_available():
        raise SystemExit("the benchmark needs a GPU: torch finds no CUDA device on this machine")


def measure_once(server_flags: Sequence[str]) -> dict[str, float]:
    """Take every figure once: the bare graphs first, then the server."""
    figures: dict[str, float] = {}
    for model in MODELS:
        for size, seconds in _bare_graphs(model).items():
            figures[f"graph_{model}_{size}_ms"] = seconds * 1000
    with running_server("--device", "cuda", *server_flags) as server:
        for model in MODELS:
            lone = send(server.address, model, images=1, requests=_LONE_REQUESTS, in_flight=1)
            figures[f"server_{model}_lone_p50_ms"] = lone.p50_ms
            for images in _IMAGES_PER_REQUEST:
                figures[f"server_{model}_{images}_images"] = images_per_second(server.address, model, images=images)
    return figures


def images_per_second(address: str, model: str, *, images: int) -> float:
    """Return what the server does in about three seconds of requests of so many images, after a warm-up."""
    in_flight = _IMAGES_IN_FLIGHT // images
    trial = send(address, model, images=images, requests=10 * in_flight, in_flight=in_flight)
    requests = max(10 * in_flight, int(trial.per_second * _LOADED_SECONDS))
    return images * send(address, model, images=images, requests=requests, in_flight=in_flight).per_second


def send(address: str, model: str, *, images: int, requests: int, in_flight: int) -> LoadResult:
    """Send the same request again and again.

    Raises:
        RuntimeError: the replies are too short to hold a result for each image.
    """
    image = pb.Image(rgb=Image.effect_noise((32, 32), 60).convert("RGB").tobytes())
    body = grpc_body([pb.PredictRequest(model=model, images=[image] * images).SerializeToString()])
    result = run_load(address, PREDICT, body, requests=requests, in_flight=in_flight)
    if result.reply_bytes < images * _LEAST_RESULT_BYTES:
        raise RuntimeError(f"expected replies with {images} results, got {result.reply_bytes:.0f} bytes each")
    return result


def rows(figures: dict[str, float]) -> list[Row]:
    """Hold each figure against the bare graph of as many images."""
    return [row for model in MODELS for row in (_lone(model, figures), *_loaded(model, figures))]


def _lone(model: str, figures: dict[str, float]) -> Row:
    measured, ceiling = figures[f"server_{model}_lone_p50_ms"], figures[f"graph_{model}_1_ms"]
    return Row(f"{model}: lone request, p50, over its graph", measured, ceiling, "ms", measured / ceiling, "", met=True)


def _loaded(model: str, figures: dict[str, float]) -> Iterator[Row]:
    for images in _IMAGES_PER_REQUEST:
        name = f"{model}: {images} images a request, over their graph"
        measured = figures[f"server_{model}_{images}_images"]
        ceiling = images / (figures[f"graph_{model}_{images}_ms"] / 1000)
        ratio = measured / ceiling
        yield Row(name, measured, ceiling, "images/s", ratio, f">= {_LEAST_RATIO}", met=ratio >= _LEAST_RATIO)


def _bare_graphs(model: str) -> dict[int, float]:
    """Return the seconds of a pass by batch size."""
    command = [sys.executable, "-m", "benchmarks.graphs", model]
    output = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {int(size): seconds for size, seconds in json.loads(output).items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="the server on a GPU against bare CUDA graphs")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many runs is reported")
    flags, server_flags = parser.parse_known_args()
    require_gpu()
    require_h2load()
    runs = []
    for number in range(flags.repeats):
        runs.append(measure_once(server_flags))
        print(f"run {number + 1} of {flags.repeats} done", file=sys.stderr)
    figures = {name: median(run[name] for run in runs) for name in runs[0]}
    table = rows(figures)
    machine = f"{torch.cuda.get_device_name()}; {usage.machine()}"
    print(f"{machine}; server flags: {' '.join(server_flags) or 'none'}")
    print_rows(table)
    RESULTS.mkdir(exist_ok=True)
    report = {
        "machine": machine,
        "server_flags": server_flags,
        "rows": [asdict(row) for row in table],
        "figures": figures,
        "runs": runs,
    }
    (RESULTS / "gpu.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
