from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models import registry
from training.learner import EpochResult
from training.tensorboard import opened_board


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


@pytest.mark.parametrize(("architecture", "first_layer"), [("quick", {"filters", "feature_maps"}), ("mlp", set())])
def test_board_shows_the_run(tmp_path: Path, architecture: str, first_layer: set[str]) -> None:
    """Loss of every step, rate and validation of every epoch, graph, inputs, and the first convolution are logged."""
    network = registry.build(architecture)
    inputs = torch.randn(4, 3, 32, 32)

    with opened_board(tmp_path, steps_per_epoch=3, first_step=0) as board:
        board.show_network(network, inputs)
        for epoch in (1, 2):
            result = EpochResult(epoch, 1.0, 0.5, epoch / 10, 0.1 * epoch, 100.0, 1.0)
            board.show_epoch(result, [3.0 / epoch, 2.0 / epoch, 1.0 / epoch])
            board.show_first_layer(network, inputs, epoch=epoch)

    events = read(tmp_path)
    tags = events.Tags()
    assert set(tags["scalars"]) == {"train_loss", "validation_accuracy", "lr"}
    assert set(tags["images"]) == {"inputs"} | first_layer
    assert tags["graph"]
    assert [(event.step, event.value) for event in events.Scalars("train_loss")] == [
        (0, 3.0),
        (1, 2.0),
        (2, 1.0),
        (3, 1.5),
        (4, 1.0),
        (5, 0.5),
    ]
    assert [event.step for event in events.Scalars("validation_accuracy")] == [3, 6]


def test_what_is_learned_again_is_not_shown_twice(tmp_path: Path) -> None:
    """A run that goes on from an earlier step takes the place of what was logged after it."""
    for first_step, loss in ((0, 2.0), (3, 1.0)):
        with opened_board(tmp_path, steps_per_epoch=3, first_step=first_step) as board:
            for epoch in range(first_step // 3 + 1, 3):
                board.show_epoch(EpochResult(epoch, loss, 0.5, 0.5, 0.1, 1.0, 1.0), [loss] * 3)

    values = [(event.step, event.value) for event in read(tmp_path).Scalars("train_loss")]
    assert values == [(0, 2.0), (1, 2.0), (2, 2.0), (3, 1.0), (4, 1.0), (5, 1.0)]
