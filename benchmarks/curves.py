"""Two pictures of the server: latency against load, and throughput against images per request.

    python -m benchmarks.curves

Writes `latency.png` and `throughput.png` into `benchmarks/results/`.
"""

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from PIL import Image

from benchmarks.load import PREDICT, LoadResult, grpc_body, require_h2load, run_load
from benchmarks.running import running_server
from cifarserve.v1 import classifier_pb2 as pb

RESULTS = Path(__file__).parent / "results"

_IN_FLIGHT = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
_MODELS = ("quick", "whitened")
_SECONDS = 1.5


def measure(address: str, model: str, *, images: int, in_flight: int) -> LoadResult:
    """Return what about a second and a half of closed-loop load saw."""
    image = pb.Image(rgb=Image.effect_noise((32, 32), 60).convert("RGB").tobytes())
    body = grpc_body([pb.PredictRequest(model=model, images=[image] * images).SerializeToString()])
    trial = run_load(address, PREDICT, body, requests=max(50, in_flight), in_flight=in_flight)
    requests = max(100, in_flight, int(trial.per_second * _SECONDS))
    return run_load(address, PREDICT, body, requests=requests, in_flight=in_flight)


def plot_latency(curves: dict[str, list[LoadResult]], path: Path) -> None:
    """Draw p50 and p99 against requests per second, one point per number of requests in flight."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for model, results in curves.items():
        per_second = [result.per_second for result in results]
        [line] = axes.plot(per_second, [result.p50_ms for result in results], marker="o", label=f"{model}, p50")
        axes.plot(
            per_second,
            [result.p99_ms for result in results],
            ls="--",
            marker=".",
            color=line.get_color(),
            label=f"{model}, p99",
        )
    axes.set(xlabel="requests per second, one image each", ylabel="latency, ms", yscale="log")
    axes.set_title(f"Latency against load, {_IN_FLIGHT[0]} to {_IN_FLIGHT[-1]} requests in flight")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_throughput(curves: dict[str, list[float]], path: Path) -> None:
    """Draw images per second against images per request."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for model, images_per_second in curves.items():
        axes.plot(_IMAGES, images_per_second, marker="o", label=model)
    axes.set(xlabel="images per request", ylabel="images per second", xscale="log", ylim=(0, None))
    axes.set_xticks(_IMAGES, [str(number) for number in _IMAGES])
    axes.set_title("Throughput against images per request, 8 requests in flight")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure and draw."""
    require_h2load()
    mpl.use("Agg")
    with running_server() as server:
        latency = {
            model: [measure(server.address, model, images=1, in_flight=number) for number in _IN_FLIGHT]
            for model in _MODELS
        }
        throughput = {
            model: [
                number * measure(server.address, model, images=number, in_flight=8).per_second for number in _IMAGES
            ]
            for model in _MODELS
        }
    RESULTS.mkdir(exist_ok=True)
    plot_latency(latency, RESULTS / "latency.png")
    plot_throughput(throughput, RESULTS / "throughput.png")
    print(f"wrote {RESULTS / 'latency.png'} and {RESULTS / 'throughput.png'}")


if __name__ == "__main__":
    main()
