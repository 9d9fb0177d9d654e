"""What a server's processes use: CPU seconds and memory, its engines' included. Reads /proc."""

import os
import platform
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the user and system seconds of a process and its living children."""
    return sum(_ticks(process) for process in _tree(pid)) / _TICKS_PER_SECOND


def rss_mib(pid: int) -> float:
    """Return the proportional memory of a process and its living children, in MiB: shared pages count once."""
    return sum(_pss_kib(process) for process in _tree(pid)) / 1024


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in _tree(int(child)))]


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def machine() -> str:
    """Return the processor's name and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    cores = sum(line.startswith("processor") for line in lines)
    amx = ", AMX bf16" if any("amx_bf16" in line for line in lines) else ""
    return f"{model}, {cores} cores{amx}"
