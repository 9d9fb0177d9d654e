"""The ceiling of any server: the bare forward pass, nothing around it, at its best.

    python -m benchmarks.ceilings ARCHITECTURE

Prints JSON: the most images per second over precisions, layouts, threads and batch sizes, and the
seconds of the fastest pass of one image. Runs in a process of its own, which ends before the server
is measured.
"""

import itertools
import json
import os
import sys
import time

import torch

from models.preprocessing import normalize
from models.registry import build

_SECONDS_PER_VARIANT = 0.25
_LEAST_PASSES = 3
_BATCH_SIZES = (1, 16, 32, 64, 128)
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@torch.inference_mode()
def best_forward(architecture: str) -> dict[str, object]:
    """Return the best figures over all variants, and which variants they are."""
    cpus = len(os.sched_getaffinity(0))
    throughput, lone = (0.0, ""), (float("inf"), "")
    for precision, layout, threads in itertools.product(_PRECISIONS, _LAYOUTS, sorted({1, cpus})):
        torch.set_num_threads(threads)
        network = build(architecture).eval().to(_PRECISIONS[precision]).to(memory_format=_LAYOUTS[layout])
        for size in _BATCH_SIZES:
            images = torch.randint(0, 256, (size, 32, 32, 3), dtype=torch.uint8)
            inputs = normalize(images, dtype=_PRECISIONS[precision]).contiguous(memory_format=_LAYOUTS[layout])
            seconds = _seconds_per_pass(network, inputs)
            variant = f"{precision} {layout} {threads} threads batch {size}"
            throughput = max(throughput, (size / seconds, variant))
            lone = min(lone, (seconds, variant)) if size == 1 else lone
    return {
        "images_per_second": throughput[0],
        "images_variant": throughput[1],
        "lone_seconds": lone[0],
        "lone_variant": lone[1],
    }


def _seconds_per_pass(network: torch.nn.Module, inputs: torch.Tensor) -> float:
    """Return the median of as many passes as fit into a fraction of a second."""
    network(inputs)
    seconds: list[float] = []
    end = time.perf_counter() + _SECONDS_PER_VARIANT
    while time.perf_counter() < end or len(seconds) < _LEAST_PASSES:
        started = time.perf_counter()
        network(inputs)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[len(seconds) // 2]


if __name__ == "__main__":
    print(json.dumps(best_forward(sys.argv[1])))
