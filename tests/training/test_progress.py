import pytest
import torch

from training.data import EpochLoader, Split
from training.distributed import World
from training.learner import EpochResult
from training.progress import Progress, write_line
from training.recipes import Augmentation


class FakeClock:
    """Stands in for the `time` module: as late as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("steps_done_before", [0, 6])
def test_seconds_are_those_of_a_whole_epoch(monkeypatch: pytest.MonkeyPatch, steps_done_before: int) -> None:
    """An epoch that was resumed in its middle is shorter; what is left is reckoned from whole ones."""
    clock = FakeClock()
    monkeypatch.setattr("training.progress.time", clock)
    split = Split(torch.zeros(40, 32, 32, 3, dtype=torch.uint8), torch.zeros(40, dtype=torch.int64))
    loader = EpochLoader(split, batch_size=5, augmentation=Augmentation(), seed=0, dtype=torch.float32)
    loader.step = steps_done_before

    with Progress(loader, epochs=3, world=World()) as progress:
        for _, labels in progress:
            clock.now += 2.0
            progress.show(torch.tensor(1.0), torch.zeros(len(labels), 10), labels)
        result = progress.result(lr=0.1)

    assert result.seconds == 8 * 2.0
    assert result.images_per_second == 2.5


def test_line_says_how_long_the_rest_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """Two more epochs of a minute and a half each are three minutes."""
    write_line(EpochResult(1, 2.0, 0.3, 0.4, 0.1, 1000.0, 90.0), epochs=3)

    assert "3 min left" in capsys.readouterr().out
