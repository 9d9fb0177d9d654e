"""A run that was stopped goes on to the weights that it would have had."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models import checkpoint
from models.repository import Repository
from tests.training.runs import published_by, small_run
from training import loop
from training.config import TrainingConfig
from training.data import EpochLoader
from training.errors import Interrupted, StateMismatch
from training.loop import train
from training.publication import Published
from training.state import RunFolder

CHECKOUT = Path(__file__).parents[2]


class InterruptedLoader(EpochLoader):
    """A loader that gets its process a SIGTERM when it draws the second batch of the second epoch."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number, batch in enumerate(super().__iter__()):
            if (self.epoch, number) == (1, 1):
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


@pytest.fixture
def config(tiny_cifar10: Path, tmp_path: Path) -> TrainingConfig:
    """Three epochs of `quick` on the tiny data set, three batches each, with an average and random turns."""
    return small_run(tiny_cifar10, tmp_path, epochs=3, ema_decay=0.5, rotate_degrees=10)


def elsewhere(config: TrainingConfig, tmp_path: Path) -> TrainingConfig:
    """Return the same run in folders of its own."""
    return config.model_copy(update={"repository": tmp_path / "models2", "run_folder": tmp_path / "run2"})


def weights(published: Published) -> dict[str, torch.Tensor]:
    return checkpoint.load(published.folder, device=torch.device("cpu")).network.state_dict()


def assert_same_weights(first: Published, second: Published) -> None:
    pairs = zip(weights(first).values(), weights(second).values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_interrupted_run_goes_on(config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM in mid-epoch, then `--resume`: the weights are those of a run that was left alone, bit for bit."""
    undisturbed = published_by(elsewhere(config, tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(loop, "EpochLoader", InterruptedLoader)
        with pytest.raises(Interrupted, match="interrupted in epoch 2 of 3; nothing was published"):
            train(config)
    assert Repository(config.repository).models() == ()
    assert (tmp_path / "run" / "epoch-0001-step-00001.pt").exists()

    resumed = published_by(config.model_copy(update={"resume": True}))

    assert_same_weights(resumed, undisturbed)


def test_killed_run_goes_on(config: TrainingConfig, tmp_path: Path) -> None:
    """Kill -9 in mid-epoch, then `--resume`: the weights are those of a run that was left alone, bit for bit."""
    config = config.model_copy(update={"epochs": 8, "batch_size": 10, "lr": 0.002})
    flags = (
        "--architecture=quick --validation-images=50 --epochs=8 --batch-size=10 --lr=0.002 --ema-decay=0.5 "
        "--device=cpu --rotate-degrees=10 --precision=fp32 --threads=1 --no-tensorboard --no-report"
    )
    folders = ["--repository", str(config.repository), "--run-folder", str(config.run_folder)]
    command = [sys.executable, "-m", "tests.training.train_on_tiny_cifar10", str(config.data), *flags.split(), *folders]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("epoch   1/8")
        finally:
            process.kill()
    assert Repository(config.repository).models() == ()

    resumed = published_by(config.model_copy(update={"resume": True}))

    assert_same_weights(resumed, published_by(elsewhere(config, tmp_path)))


def test_run_that_was_killed_while_it_published(config: TrainingConfig) -> None:
    """After the last epoch there is nothing to train: `--resume` assesses and publishes."""
    first = published_by(config)

    second = published_by(config.model_copy(update={"resume": True}))

    assert second.card.version == 2
    assert_same_weights(first, second)


def test_other_settings_are_refused(config: TrainingConfig) -> None:
    """A run is resumed with the settings that it was begun with, or not at all."""
    train(config)

    with pytest.raises(StateMismatch, match=r"--resume: the saved run has lr 0.01, this one 0.02"):
        train(config.model_copy(update={"resume": True, "lr": 0.02}))


def test_unfinished_run_is_in_the_way(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of training are not thrown away because a flag was forgotten; another flag throws them away."""
    with monkeypatch.context() as patched:
        patched.setattr(loop, "EpochLoader", InterruptedLoader)
        with pytest.raises(Interrupted):
            train(config)

    with pytest.raises(StateMismatch, match=r"holds an unfinished run \(1 of 3 epochs\): expected --resume to go on"):
        train(config)

    assert published_by(config.model_copy(update={"restart": True})).card.version == 1


def test_finished_run_is_not_in_the_way(config: TrainingConfig) -> None:
    """Whatever a run was, when it is over its folder is free for the next one, be that longer."""
    train(config)

    assert published_by(config.model_copy(update={"epochs": 4})).card.version == 2


def test_best_on_validation_can_be_published(config: TrainingConfig) -> None:
    """With `--publish best`, the weights of the epoch that was best on validation are published, not the last ones."""
    published = published_by(config.model_copy(update={"publish": "best", "epochs": 6}))

    history = RunFolder(config.folder(), keep=2).load(device=torch.device("cpu"))["history"]
    assert published.card.validation.accuracy == max(epoch["validation_accuracy"] for epoch in history)


def test_nothing_to_resume(config: TrainingConfig) -> None:
    """`--resume` without a saved state is said at once."""
    with pytest.raises(StateMismatch, match="no saved state"):
        train(config.model_copy(update={"resume": True}))
