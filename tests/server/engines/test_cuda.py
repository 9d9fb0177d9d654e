"""The GPU's pass: its copies and its padding are tested on the CPU too, its graphs where there is a GPU."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models import checkpoint
from models.variants import prepare
from server.engines.buckets import bucket
from server.engines.cuda import Staging, run
from server.engines.forward import Forward
from server.engines.local import Death, LocalEngine, LocalEngineSettings
from server.engines.processes import EngineProcesses
from server.engines.scoring import Scorer
from server.engines.shared import SharedBatches, Slot

CPU = torch.device("cpu")
GPU = torch.device("cuda:0")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")

Probabilities = npt.NDArray[np.float32]


def make_slots(count: int, *, max_batch_size: int = 8) -> tuple[Slot, ...]:
    """Return slots with random pictures, each with its own."""
    slots = SharedBatches.create(max_batch_size=max_batch_size, slots=count).slots
    for seed, slot in enumerate(slots):
        slot.images[:] = np.random.default_rng(seed).integers(0, 256, slot.images.shape, np.uint8)
    return slots


def make_scorer(repository: Path) -> Scorer:
    loaded = checkpoint.load(repository / "quick" / "2", device=CPU)
    network = prepare(loaded.network, precision="fp32", layout="channels_last")
    return Scorer(network, precision="fp32", temperature=loaded.card.temperature)


def by_label(slot: Slot, count: int) -> Probabilities:
    """Undo the sorting."""
    found = np.empty((count, 10), np.float32)
    np.put_along_axis(found, slot.indices[:count].astype(np.int64), slot.probabilities[:count], axis=1)
    return found


def expected(repository: Path, slot: Slot, count: int) -> Probabilities:
    """Compute the same pictures on the CPU, each alone."""
    forward = Forward(repository / "quick" / "2", device=CPU, precision="fp32")
    [own] = make_slots(1, max_batch_size=1)
    rows = []
    for image in slot.images[:count]:
        own.images[0] = image
        forward.compute(own, 1)
        rows.append(by_label(own, 1))
    return np.concatenate(rows)


def compute_padded(scorer: Scorer, staging: Staging, count: int) -> None:
    """Do what a slot on a GPU does, with a plain pass in the place of the graph."""
    with torch.inference_mode():
        staging.send(count)
        run(scorer, staging.on_device, bucket(count, largest=8))
        staging.fetch(count)
        staging.deliver(count)


def test_padded_batch_has_the_scores_of_its_pictures(repository: Path) -> None:
    """A batch that is computed in a larger bucket, after others, gets the scores that each picture has alone."""
    [slot] = make_slots(1)
    scorer, staging = make_scorer(repository), Staging(slot, CPU)

    for count in (8, 3, 5, 1, 6):
        slot.images[:] = np.random.default_rng(count).integers(0, 256, slot.images.shape, np.uint8)
        compute_padded(scorer, staging, count)

        assert np.abs(by_label(slot, count) - expected(repository, slot, count)).max() <= 1e-5


def test_rows_of_the_padding_reach_nobody(repository: Path) -> None:
    """A batch leaves the rows behind its own alone, although its bucket has computed them."""
    [slot] = make_slots(1)
    slot.probabilities[:], slot.indices[:] = -1, 255

    compute_padded(make_scorer(repository), Staging(slot, CPU), 3)

    assert (slot.probabilities[:3] >= 0).all()
    assert (slot.indices[:3] < 10).all()
    assert (slot.probabilities[3:] == -1).all()
    assert (slot.indices[3:] == 255).all()


def test_pictures_behind_the_batch_are_not_copied() -> None:
    """Only a batch's own pictures go to the device."""
    [slot] = make_slots(1)
    staging = Staging(slot, CPU)

    staging.send(3)

    on_device = staging.on_device.images.numpy()
    assert (on_device[:3] == slot.images[:3]).all()
    assert not on_device[3:].any()


@needs_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 1e-2)])
def test_gpu_agrees_with_the_cpu(repository: Path, precision: str, tolerance: float) -> None:
    """Every batch size on the GPU gives nearly the CPU's probabilities, and writes its own rows only."""
    slots = make_slots(2)
    forward = Forward(repository / "quick" / "2", device=GPU, precision=precision)
    forward.warm_up(slots)

    for slot in slots:
        slot.images[:] = np.random.default_rng(7).integers(0, 256, slot.images.shape, np.uint8)
        for count in range(1, 9):
            slot.probabilities[:] = -1
            forward.compute(slot, count)

            assert np.abs(by_label(slot, count) - expected(repository, slot, count)).max() <= tolerance
            assert (slot.probabilities[count:] == -1).all()


@needs_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-2)])
def test_picture_is_the_same_in_every_bucket(repository: Path, precision: str, tolerance: float) -> None:
    """On the GPU a picture's probabilities do not depend on how many others come with it."""
    [slot] = make_slots(1, max_batch_size=64)
    forward = Forward(repository / "quick" / "2", device=GPU, precision=precision)
    forward.warm_up([slot])
    slot.images[:] = np.random.default_rng(7).integers(0, 256, slot.images.shape, np.uint8)
    forward.compute(slot, 64)
    together = by_label(slot, 64)

    for count in range(1, 64):
        forward.compute(slot, count)

        assert np.abs(by_label(slot, count) - together[:count]).max() <= tolerance


@needs_gpu
def test_slots_compute_side_by_side(repository: Path) -> None:
    """Passes of different slots at the same time do not mix: graphs of different slots share no memory."""
    slots = make_slots(4)
    forward = Forward(repository / "quick" / "2", device=GPU, precision="fp32")
    forward.warm_up(slots)
    for seed, slot in enumerate(slots):
        slot.images[:] = np.random.default_rng(seed).integers(0, 256, slot.images.shape, np.uint8)

    def compute_often(slot: Slot) -> None:
        for number in range(200):
            forward.compute(slot, 1 + number % 8)

    with ThreadPoolExecutor(len(slots)) as lanes:
        list(lanes.map(compute_often, slots))

    for slot in slots:
        assert np.abs(by_label(slot, 8) - expected(repository, slot, 8)).max() <= 1e-4


@needs_gpu
async def test_forked_engine_computes_on_the_gpu(repository: Path) -> None:
    """The process that engines are forked from has not touched the GPU, so that each of them can."""
    settings = LocalEngineSettings(
        folder=str(repository / "quick" / "2"),
        device="cuda",
        precision="fp32",
        compile=False,
        lanes=2,
        max_batch_size=8,
        log_format="json",
        log_level="warning",
    )
    deaths: list[Death] = []
    batches = [[bytes([number]) * 3072] * (1 + number % 8) for number in range(20)]
    async with EngineProcesses() as processes, LocalEngine(settings, processes, on_death=deaths.append) as engine:
        answers = await asyncio.gather(*(engine.predict(batch) for batch in batches))

        assert engine.info.device == "cuda:0"
        assert engine.info.layout == "channels_last"
    assert [len(answer) for answer in answers] == [len(batch) for batch in batches]
    assert deaths == []
