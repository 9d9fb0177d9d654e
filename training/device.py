"""Where to compute and in which floating type."""

import contextlib
import ctypes
import os
import platform
from pathlib import Path

import torch

from training.errors import DeviceMissing

# bf16 pays on a CPU only where the instructions exist; elsewhere it is emulated and slower.
_BF16_CPU_FLAGS = {"amx_bf16", "avx512_bf16"}


def select_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is the GPU where there is one, else the CPU.

    Raises:
        DeviceMissing: a GPU was named that is not there.
    """
    if name == "auto":
        # torchrun numbers the processes of a machine: each takes its own GPU
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceMissing(
            f"device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use auto or cpu"
        )
    return device


def select_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in: `fp32`, `bf16`, or for `auto` bf16 where `device` has it."""
    if precision == "auto":
        precision = "bf16" if _computes_bf16(device) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def hardware_name(device: torch.device) -> str:
    """Return a line that names the device, for the card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    return f"{model or platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def keep_freed_memory() -> None:
    """Keep what a step frees for the next step, where the C library is glibc.

    By default each large activation is mapped and unmapped, and the kernel clears its pages every time.
    """
    trim_threshold, mmap_max = -1, -4  # <malloc.h>: M_TRIM_THRESHOLD, M_MMAP_MAX
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(line.startswith("flags") and _BF16_CPU_FLAGS & set(line.split()) for line in _cpuinfo())


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
