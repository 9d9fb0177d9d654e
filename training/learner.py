"""What changes while a run learns: weights, their average, optimizer, position, history. Saved and put back whole."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from training.averaging import build_average
from training.errors import StateMismatch
from training.optimizers import build_optimizer
from training.recipes import Recipe
from training.schedule import lr_schedule


@dataclass(frozen=True)
class EpochResult:
    """One finished epoch, as the progress line and the report show it; `seconds` are those of a whole one."""

    epoch: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    lr: float
    images_per_second: float
    seconds: float


@dataclass
class Learner:
    """A network on its way through a recipe of `steps_per_epoch` steps an epoch.

    Attributes:
        epoch: finished epochs.
        step: steps taken since then.
        seconds: of training, in all the processes that worked on this run one after another.
    """

    network: nn.Module
    recipe: Recipe
    steps_per_epoch: int
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[EpochResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = build_optimizer(self.network, self.recipe)
        self._average = build_average(self.network, self.recipe.ema_decay)

    @property
    def published(self) -> nn.Module:
        """The network to evaluate and to publish: the average where the recipe has one."""
        return self.network if self._average is None else self._average.module

    def next_lr(self) -> float:
        """Return the learning rate of the next step."""
        return lr_schedule(
            self.epoch * self.steps_per_epoch + self.step,
            steps=self.recipe.epochs * self.steps_per_epoch,
            peak=self.recipe.lr,
            warmup_fraction=self.recipe.warmup_fraction,
            shape=self.recipe.schedule,
        )

    def count_step(self) -> None:
        """Note that the optimizer took a step."""
        self.step += 1
        if self._average is not None:
            self._average.update_parameters(self.network)

    def count_epoch(self, result: EpochResult) -> bool:
        """Note that an epoch is over; return whether it is the best so far on validation."""
        self.epoch, self.step = self.epoch + 1, 0
        self.history.append(result)
        return result.validation_accuracy >= max(past.validation_accuracy for past in self.history)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a later process needs to go on."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "history": [vars(result) for result in self.history],
            "network": self.network.state_dict(),
            "average": self._average.state_dict() if self._average is not None else None,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            StateMismatch: it is not a state of this network and recipe.
        """
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self._average is not None:
                self._average.load_state_dict(state["average"])
            self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
            self.history = [EpochResult(**result) for result in state["history"]]
        except (KeyError, TypeError, ValueError, RuntimeError) as exc:
            raise StateMismatch(f"the saved state does not fit the network: {str(exc).splitlines()[0]}") from exc
