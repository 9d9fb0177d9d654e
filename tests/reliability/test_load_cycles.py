"""Loading and unloading leaves nothing behind, also when it fails."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks import usage
from client import ClassifierClient, ModelAdminClient, NotPossible, RawRgb
from tests.models import damages
from tests.reliability.conftest import Figure, Scale
from tests.reliability.versions import MODEL, publish_version
from tests.server.process import running_server

_PICTURE = RawRgb(bytes(3072))
_WARM_UP = 10


@dataclass(frozen=True)
class Used:
    """What the server and its processes hold while no model is loaded."""

    memory_mib: float
    threads: int
    descriptors: int
    processes: int


def used_by(pid: int) -> Used:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Used(
        usage.rss_mib(pid),
        int(status["Threads"]),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()),
    )


async def good_cycle(admin: ModelAdminClient, client: ClassifierClient) -> None:
    """Load version 1, use it, unload it."""
    loaded = await admin.load(MODEL)
    assert loaded.serving is not None
    answers = [await client.predict([_PICTURE] * 8, model=MODEL) for _ in range(5)]
    assert {answer.model.version for answer in answers} == {1}
    await admin.unload(MODEL)


async def failing_cycle(admin: ModelAdminClient, version: int) -> None:
    """Ask for a damaged version; afterwards nothing is loaded."""
    await admin.pin(MODEL, version)
    with pytest.raises(NotPossible, match="refused, no version answers"):
        await admin.load(MODEL)
    await admin.unpin(MODEL)


@pytest.mark.timeout(900)
async def test_cycles_leave_nothing_behind(tmp_path: Path, scale: Scale, figure: Figure) -> None:
    """T5. Models come and go, half of them failing: memory, threads and descriptors stay as they are."""
    cycles = scale.choose(short=4, full=100)
    repository = tmp_path / "repository"
    publish_version(repository, 1)
    publish_version(repository, 2, damage=damages.weights_not_finite)
    publish_version(repository, 3, damage=damages.weights_truncated)
    flags = ("--repository", repository, "--model-control", "explicit")
    samples: list[Used] = []
    async with (
        running_server(*flags) as server,
        ModelAdminClient(server.address, timeout_seconds=60) as admin,
        ClassifierClient(server.address) as client,
    ):
        for cycle in range(cycles):
            if cycle % 2:
                await failing_cycle(admin, 2 + cycle // 2 % 2)
            else:
                await admin.pin(MODEL, 1)
                await good_cycle(admin, client)
            samples.append(used_by(server.process.pid))
        successes, failures = (
            server.metric("cifarserve_model_loads_total", outcome=outcome) for outcome in ("success", "failure")
        )

    assert (successes, failures) == (cycles / 2, cycles / 2)
    settled = samples[min(_WARM_UP, cycles // 2) :]
    assert max(sample.threads for sample in settled) <= settled[0].threads
    assert max(sample.descriptors for sample in settled) <= settled[0].descriptors + 1
    assert len({sample.processes for sample in settled}) == 1
    slope = float(np.polyfit(range(len(settled)), [sample.memory_mib for sample in settled], 1)[0])
    if scale.full:
        assert slope <= 0.2
    figure(
        promise="loading and unloading leaks nothing",
        tested=f"{cycles} cycles of load, 40 pictures, unload; half of them fail, by a wrong digest or NaN weights",
        value=f"memory {slope:+.3f} MiB a cycle after {cycles - len(settled)}; threads {settled[0].threads} to"
        f" {settled[-1].threads}, file descriptors {settled[0].descriptors} to {settled[-1].descriptors}",
    )
