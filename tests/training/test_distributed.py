"""Two processes under torchrun, as a person starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.repository import Repository
from tests.training.runs import small_run
from training.config import TrainingConfig
from training.distributed import World
from training.errors import UnevenBatch
from training.loop import train
from training.state import RunFolder

CHECKOUT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def config(tiny_cifar10: Path, tmp_path: Path) -> TrainingConfig:
    return small_run(tiny_cifar10, tmp_path, epochs=3)


def test_two_processes_learn_what_one_learns(config: TrainingConfig, tmp_path: Path) -> None:
    """Two processes with 25 pictures a step each have the loss curve of one with 50; one version is published."""
    flags = (
        "--architecture=quick --validation-images=50 --epochs=3 --batch-size=50 --lr=0.01 --device=cpu "
        "--precision=fp32 --threads=1 --no-tensorboard --no-report"
    )
    folders = ["--repository", str(tmp_path / "models2"), "--run-folder", str(tmp_path / "run2")]
    program = ["-m", "tests.training.train_on_tiny_cifar10", str(config.data), *flags.split(), *folders]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python", sys.executable]
    finished = subprocess.run(
        [sys.executable, *launcher, *program],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    train(config)

    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("epoch   1/3") == finished.stdout.count("published quick version 1") == 1
    assert Repository(tmp_path / "models2").versions("quick") == (1,)
    alone, together = (RunFolder(tmp_path / name, keep=1).load(device=CPU) for name in ("run", "run2"))
    for one, other in zip(alone["history"], together["history"], strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert other["train_accuracy"] == pytest.approx(one["train_accuracy"], abs=0.03)
    for name, value in alone["network"].items():
        torch.testing.assert_close(together["network"][name], value, rtol=1e-2, atol=1e-3)


def test_world_of_one_asks_nobody() -> None:
    """Without torchrun, sums and agreements are the process's own, and the network is trained as it is."""
    world = World()
    network = torch.nn.Linear(1, 1)

    assert world.is_first
    assert world.wrap(network) is network
    assert torch.equal(world.total(torch.tensor([1.0, 2.0])), torch.tensor([1.0, 2.0]))
    assert [world.agree(on=on, device=CPU) for on in (False, True)] == [False, True]


def test_batch_that_cannot_be_shared(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes cannot share 50 pictures equally, and the message says so."""
    monkeypatch.setattr("training.loop.World.size", 3, raising=False)
    monkeypatch.setattr("training.distributed.World.__init__", lambda _: None)
    monkeypatch.setattr("training.loop.World.rank", 0, raising=False)

    with pytest.raises(UnevenBatch, match="--batch-size 50: expected a multiple of the 3 processes"):
        train(config)
