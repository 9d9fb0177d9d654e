import os
from pathlib import Path

import pytest

from server.cpus import usable_cpus


@pytest.fixture(autouse=True)
def _sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))  # noqa: ARG005


@pytest.mark.parametrize(
    ("limit", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 16)]
)
def test_quota_of_version_two_counts(tmp_path: Path, limit: str, expected: int) -> None:
    """A quota is rounded up to whole CPUs; without one all count."""
    (tmp_path / "cpu.max").write_text(limit)

    assert usable_cpus(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", 16)])
def test_quota_of_version_one_counts(tmp_path: Path, quota: str, expected: int) -> None:
    """The older files mean the same."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")

    assert usable_cpus(tmp_path) == expected


def test_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is bound to three CPUs has three."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 3})  # noqa: ARG005

    assert usable_cpus(tmp_path) == 3
