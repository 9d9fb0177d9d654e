"""How many CPUs this process may really use: its affinity, and the quota of its control group."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = _CGROUP) -> int:
    """Return the number of CPUs, at least 1.

    A container that is limited to two CPUs sees all of the machine's; threads for all of them would
    be throttled. Both versions of control groups are read.
    """
    return max(1, min(len(os.sched_getaffinity(0)), _quota(cgroup)))


def _quota(cgroup: Path) -> int:
    try:
        quota, period = _v2(cgroup) or _v1(cgroup)
        return math.ceil(int(quota) / int(period)) if int(quota) > 0 else os.cpu_count() or 1
    except (OSError, ValueError):  # no limit is set, or control groups are not there
        return os.cpu_count() or 1


def _v2(cgroup: Path) -> list[str] | None:
    path = cgroup / "cpu.max"
    return path.read_text().split() if path.exists() else None


def _v1(cgroup: Path) -> list[str]:
    return [(cgroup / "cpu" / name).read_text() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
