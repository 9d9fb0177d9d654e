import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.errors import CheckpointDamaged
from models.preprocessing import normalize
from server.engines import Pixels, Scores
from server.engines.local import Death, LocalEngine, LocalEngineSettings
from server.engines.processes import EngineProcesses
from server.errors import EngineLost, StartError
from tests.conftest import publish
from tests.polling import eventually


def settings(folder: Path, *, device: str = "cpu") -> LocalEngineSettings:
    return LocalEngineSettings(
        folder=str(folder),
        device=device,
        precision="fp32",
        compile=False,
        lanes=2,
        max_batch_size=8,
        log_format="json",
        log_level="warning",
    )


@pytest.fixture
def deaths() -> list[Death]:
    return []


@pytest.fixture
async def processes() -> AsyncIterator[EngineProcesses]:
    async with EngineProcesses() as processes:
        yield processes


@pytest.fixture
async def engine(repository: Path, processes: EngineProcesses, deaths: list[Death]) -> AsyncIterator[LocalEngine]:
    async with LocalEngine(settings(repository / "quick" / "2"), processes, on_death=deaths.append) as engine:
        yield engine


def pictures(count: int, *, seed: int = 0) -> list[Pixels]:
    return [picture.tobytes() for picture in np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)]


def by_label(scores: Scores) -> list[float]:
    """Undo the sorting."""
    return [probability for _, probability in sorted(zip(scores.indices, scores.probabilities, strict=True))]


async def test_scores_are_those_of_a_plain_forward_pass(engine: LocalEngine, repository: Path) -> None:
    """The engine computes softmax(logits / temperature) of the normalized pictures, as training does."""
    images = pictures(5)
    found = [by_label(scores) for scores in await engine.predict(images)]
    loaded = checkpoint.load(repository / "quick" / "2", device=torch.device("cpu"))
    with torch.inference_mode():
        pixels = np.frombuffer(b"".join(images), np.uint8).reshape(-1, 32, 32, 3)
        logits = loaded.network(normalize(torch.tensor(pixels), dtype=torch.float32))
    expected = (logits / loaded.card.temperature).softmax(dim=1).numpy()

    assert np.abs(np.array(found) - expected).max() <= 1e-5


async def test_scores_are_sorted(engine: LocalEngine) -> None:
    """The most probable label comes first, and every label comes once."""
    for scores in await engine.predict(pictures(8)):
        assert scores.probabilities == sorted(scores.probabilities, reverse=True)
        assert sorted(scores.indices) == list(range(10))


async def test_picture_is_the_same_alone_and_in_any_batch(engine: LocalEngine) -> None:
    """A picture's probabilities do not depend on the batch it is in, or on its place in it."""
    images = pictures(8)
    together = await engine.predict(images)
    for place, image in enumerate(images):
        [alone] = await engine.predict([image])

        assert alone.indices[0] == together[place].indices[0]
        assert np.abs(np.array(by_label(alone)) - by_label(together[place])).max() <= 1e-5


async def test_overlapping_batches_do_not_mix(engine: LocalEngine) -> None:
    """Batches that are under way at the same time get their own answers, however many there are."""
    batches = [pictures(1 + number % 8, seed=number) for number in range(20)]
    one_by_one = [await engine.predict(batch) for batch in batches]
    at_once = await asyncio.gather(*(engine.predict(batch) for batch in batches))

    for expected, found in zip(one_by_one, at_once, strict=True):
        for one, other in zip(expected, found, strict=True):
            assert np.abs(np.array(by_label(one)) - by_label(other)).max() <= 1e-5


async def test_info_tells_what_was_measured(engine: LocalEngine) -> None:
    """After the warm-up the engine knows its device, its precision and its costs."""
    assert (engine.info.device, engine.info.precision) == ("cpu", "fp32")
    assert set(engine.info.batch_seconds) == {1, 2, 4, 8}
    assert all(seconds > 0 for seconds in engine.info.batch_seconds.values())


async def test_death_of_the_process_is_told(engine: LocalEngine, deaths: list[Death]) -> None:
    """When the process is killed, the owner is told once, and predictions fail instead of waiting."""
    os.kill(engine.pid, signal.SIGKILL)
    await eventually(lambda: deaths == [Death("its process died", fatal=False)])

    with pytest.raises(EngineLost):
        await engine.predict(pictures(1))


async def test_interrupt_does_not_reach_the_process(engine: LocalEngine) -> None:
    """Ctrl-C and SIGTERM to the process group leave the engine to its server, which drains first."""
    os.kill(engine.pid, signal.SIGINT)
    os.kill(engine.pid, signal.SIGTERM)

    assert len(await engine.predict(pictures(2))) == 2


async def test_leaving_ends_the_process(repository: Path, processes: EngineProcesses, deaths: list[Death]) -> None:
    """Leaving the engine leaves no process behind, and is no death."""
    async with LocalEngine(settings(repository / "quick" / "2"), processes, on_death=deaths.append) as engine:
        pid = engine.pid

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert deaths == []


async def test_damaged_weights_are_refused(tmp_path: Path, processes: EngineProcesses, deaths: list[Death]) -> None:
    """An engine whose weights are damaged cannot be entered."""
    folder = publish(tmp_path, "quick")
    (folder / "model.pt").write_bytes(b"junk")

    with pytest.raises(CheckpointDamaged, match="expected SHA-256"):
        await LocalEngine(settings(folder), processes, on_death=deaths.append).__aenter__()


async def test_absent_gpu_is_an_error(repository: Path, processes: EngineProcesses, deaths: list[Death]) -> None:
    """A GPU that was asked for by name and is absent ends the start."""
    wanted = replace(settings(repository / "quick" / "2"), device="cuda:7")

    with pytest.raises(StartError, match="--device cuda:7: this machine has"):
        await LocalEngine(wanted, processes, on_death=deaths.append).__aenter__()


def descriptors() -> set[Path]:
    """What this process has open."""
    return set(Path("/proc/self/fd").iterdir())


async def test_descriptors_are_closed_without_the_garbage_collector(
    repository: Path, tmp_path: Path, processes: EngineProcesses
) -> None:
    """An engine that ended, or never became ready, has nothing open any more, though somebody still holds it."""
    good = LocalEngine(settings(repository / "quick" / "2"), processes, on_death=lambda _: None)
    bad = LocalEngine(settings(tmp_path / "nothing"), processes, on_death=lambda _: None)
    gc.disable()
    try:
        before = descriptors()
        async with good:
            await good.predict(pictures(2))
        with pytest.raises(CheckpointDamaged):
            await bad.__aenter__()
        assert descriptors() == before
    finally:
        gc.enable()


async def test_an_ended_engine_says_so(repository: Path, processes: EngineProcesses) -> None:
    """A batch for an engine that has been left is lost, which callers may try again."""
    async with LocalEngine(settings(repository / "quick" / "2"), processes, on_death=lambda _: None) as engine:
        pass
    with pytest.raises(EngineLost, match="process is gone"):
        await engine.predict(pictures(1))
