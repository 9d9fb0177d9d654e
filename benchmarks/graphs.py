"""The ceiling of any server on a GPU: the bare forward pass as a CUDA graph, nothing around it.

    python -m benchmarks.graphs MODEL

Prints JSON: the seconds of one pass by batch size, in the fastest of the floating types that the
shipped card allows. The normalized pictures lie on the device, where the logits stay. Runs
in a process of its own, which ends before the server is measured.
"""

import json
import sys
import time

import torch

from benchmarks.running import ROOT
from models.card import Card
from models.registry import build
from models.variants import PRECISIONS, prepare

BATCH_SIZES = (1, 64, 256)

_SECONDS_PER_BATCH_SIZE = 0.5
_PASSES_BEFORE_CAPTURE = 3


def allowed_precisions(model: str) -> tuple[str, ...]:
    """Return what the newest shipped card of `model` allows: the server chooses from the same."""
    newest = max((ROOT / "models/pretrained" / model).glob("*/model.json"), key=lambda path: int(path.parent.name))
    return Card.model_validate_json(newest.read_bytes()).allowed_precisions()


def fastest_passes(model: str) -> dict[int, float]:
    """Return the seconds of the fastest pass, by batch size."""
    precisions = allowed_precisions(model)
    return {size: min(seconds_per_pass(model, precision, size) for precision in precisions) for size in BATCH_SIZES}


@torch.inference_mode()
def seconds_per_pass(model: str, precision: str, size: int) -> float:
    """Return the seconds of one of many replays that follow each other without a pause."""
    network = prepare(build(model).cuda(), precision=precision, layout="channels_last")
    inputs = torch.randn(size, 3, 32, 32, device="cuda", dtype=PRECISIONS[precision])
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            for _ in range(_PASSES_BEFORE_CAPTURE):
                network(inputs)
        with torch.cuda.graph(graph, stream=stream):
            network(inputs)
    passes = max(1, int(_SECONDS_PER_BATCH_SIZE / _seconds(graph, 10)))
    return _seconds(graph, passes)


def _seconds(graph: torch.cuda.CUDAGraph, passes: int) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(passes):
        graph.replay()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / passes


if __name__ == "__main__":
    print(json.dumps(fastest_passes(sys.argv[1])))
