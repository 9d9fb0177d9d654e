from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.errors import CheckpointDamaged
from models.preprocessing import normalize
from server.engines import Pixels
from server.engines.local import LocalEngine, select_device
from server.errors import StartError
from tests.conftest import publish

CPU = torch.device("cpu")


@pytest.fixture
async def engine(repository: Path) -> AsyncIterator[LocalEngine]:
    async with LocalEngine(repository / "quick" / "2", device=CPU, max_batch_size=8) as engine:
        yield engine


def pictures(count: int) -> list[Pixels]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8))


async def test_probabilities_are_those_of_a_plain_forward_pass(engine: LocalEngine, repository: Path) -> None:
    """The engine computes softmax(logits / temperature) of the normalized pictures, as training does."""
    images = pictures(5)
    found = np.stack(await engine.predict(images))
    loaded = checkpoint.load(repository / "quick" / "2", device=CPU)
    with torch.inference_mode():
        logits = loaded.network(normalize(torch.from_numpy(np.stack(images)), dtype=torch.float32))
    expected = (logits / loaded.card.temperature).softmax(dim=1).numpy()

    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-5


async def test_picture_is_the_same_alone_and_in_any_batch(engine: LocalEngine) -> None:
    """A picture's probabilities do not depend on the batch it is in, or on its place in it."""
    images = pictures(8)
    together = await engine.predict(images)
    for place, image in enumerate(images):
        [alone] = await engine.predict([image])

        assert alone.argmax() == together[place].argmax()
        assert np.abs(alone - together[place]).max() <= 1e-5


async def test_answers_outlive_the_next_batch(engine: LocalEngine) -> None:
    """The staging buffer is reused, the answers are not overwritten."""
    [first] = await engine.predict(pictures(1))
    kept = first.copy()
    await engine.predict([np.zeros((32, 32, 3), np.uint8)] * 8)

    assert np.array_equal(first, kept)


async def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    """An engine whose weights are damaged cannot be entered, and leaves no thread behind."""
    folder = publish(tmp_path, "quick")
    (folder / "model.pt").write_bytes(b"junk")

    with pytest.raises(CheckpointDamaged, match="expected SHA-256"):
        await LocalEngine(folder, device=CPU, max_batch_size=8).__aenter__()


def test_auto_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, auto is the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert select_device("auto") == CPU


def test_absent_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that was asked for by name and is absent ends the start."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(StartError, match="--device cuda: this machine has 0 usable CUDA devices"):
        select_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
async def test_gpu_agrees_with_the_cpu(repository: Path) -> None:
    """The GPU gives the CPU's labels and nearly its probabilities."""
    images = pictures(8)
    folder = repository / "quick" / "2"
    async with LocalEngine(folder, device=torch.device("cuda"), max_batch_size=8) as engine:
        on_gpu = np.stack(await engine.predict(images))
    async with LocalEngine(folder, device=CPU, max_batch_size=8) as engine:
        on_cpu = np.stack(await engine.predict(images))

    assert np.abs(on_gpu - on_cpu).max() <= 1e-2
