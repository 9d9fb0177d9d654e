import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from training.errors import StateMismatch
from training.learner import EpochResult, Learner
from training.recipes import recipe_for


def new_learner(*, ema_decay: float = 0.0) -> Learner:
    torch.manual_seed(0)
    recipe = replace(recipe_for("quick"), epochs=2, lr=1.0, ema_decay=ema_decay)
    return Learner(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), recipe, steps_per_epoch=5)


def take_steps(learner: Learner, count: int) -> None:
    for _ in range(count):
        learner.optimizer.zero_grad()
        learner.network(torch.randn(4, 2)).square().sum().backward()
        for group in learner.optimizer.param_groups:
            group["lr"] = learner.next_lr()
        learner.optimizer.step()
        learner.count_step()


def result(epoch: int, validation_accuracy: float) -> EpochResult:
    return EpochResult(epoch, 1.0, 0.5, validation_accuracy, 0.1, 100.0, 1.0)


def test_rate_follows_the_position() -> None:
    """The rate is that of the step in the whole run, across epochs."""
    learner = new_learner()
    rates = []
    for epoch in (1, 2):
        for _ in range(5):
            rates.append(learner.next_lr())
            learner.count_step()
        learner.count_epoch(result(epoch, 0.5))

    assert rates == pytest.approx([0.5, 1.0] + [value / 9 for value in range(8, 0, -1)])


def test_average_is_what_is_published() -> None:
    """With a decay, the published network is the running average; statistics of normalization are averaged too."""
    learner = new_learner(ema_decay=0.75)
    take_steps(learner, 1)
    first = copy.deepcopy(learner.network.state_dict())
    take_steps(learner, 1)

    second, average = learner.network.state_dict(), learner.published.state_dict()
    for name in ("0.weight", "1.running_mean"):
        torch.testing.assert_close(average[name], 0.75 * first[name] + 0.25 * second[name])


def test_without_an_average_the_weights_are_published() -> None:
    """With a decay of 0 nothing is averaged."""
    learner = new_learner()

    assert learner.published is learner.network


def test_state_is_everything() -> None:
    """A learner that took over another's state takes the same steps."""
    learner, heir = new_learner(ema_decay=0.5), new_learner(ema_decay=0.5)
    take_steps(learner, 3)
    learner.seconds = 12.5
    learner.history.append(result(1, 0.5))
    heir.load_state_dict(copy.deepcopy(learner.state_dict()))

    for each in (learner, heir):
        torch.manual_seed(1)
        take_steps(each, 2)

    assert (heir.step, heir.seconds, heir.history) == (5, 12.5, learner.history)
    for name, value in learner.published.state_dict().items():
        assert torch.equal(heir.published.state_dict()[name], value)


def test_best_epoch_is_told() -> None:
    """An epoch is the best when none before was better on validation."""
    learner = new_learner()

    assert [learner.count_epoch(result(epoch, accuracy)) for epoch, accuracy in ((1, 0.5), (2, 0.4), (3, 0.6))] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("state", [{}, {"network": {"weight": torch.zeros(1)}}, {"network": 3}])
def test_state_of_something_else(state: dict[str, object]) -> None:
    """A state that does not fit is one line."""
    with pytest.raises(StateMismatch, match="the saved state does not fit the network: ") as caught:
        new_learner().load_state_dict(state)

    assert "\n" not in str(caught.value)
