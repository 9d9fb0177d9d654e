"""What TensorBoard shows of a run: curves, the graph, pictures as the network gets them, its first layer."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torchvision.utils import make_grid

from training.learner import EpochResult

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SAMPLES = 32


class Board:
    """A run's log. Tags: train_loss, lr, validation_accuracy, inputs, filters, feature_maps, and the graph."""

    def __init__(self, writer: "SummaryWriter", *, steps_per_epoch: int) -> None:
        self._writer = writer
        self._steps_per_epoch = steps_per_epoch

    def show_network(self, network: nn.Module, inputs: torch.Tensor) -> None:
        """Log the graph, and `inputs` as the network gets them: normalized (n, 3, 32, 32) float32."""
        inputs = inputs[:_SAMPLES]
        self._writer.add_image("inputs", make_grid(inputs, normalize=True))
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")  # the writer traces with what torch itself calls deprecated
            self._writer.add_graph(network.eval(), inputs[:1])

    def show_epoch(self, result: EpochResult, losses: Sequence[float]) -> None:
        """Log one epoch's loss of every step, its last learning rate and its validation accuracy."""
        last = result.epoch * self._steps_per_epoch
        for step, loss in enumerate(losses, last - len(losses)):
            self._writer.add_scalar("train_loss", loss, step)
        self._writer.add_scalar("lr", result.lr, last)
        self._writer.add_scalar("validation_accuracy", result.validation_accuracy, last)

    def show_first_layer(self, network: nn.Module, inputs: torch.Tensor, *, epoch: int) -> None:
        """Log the filters of the first convolution, where there is one, and what it makes of the first picture."""
        first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
        if first is None:
            return
        with torch.inference_mode():
            maps = first(inputs[:1])[0].unsqueeze(1)
        step = epoch * self._steps_per_epoch
        for tag, pictures in (("filters", first.weight.detach().float()), ("feature_maps", maps.float())):
            self._writer.add_image(tag, make_grid(pictures, normalize=True, scale_each=True, padding=1), step)


@contextlib.contextmanager
def opened_board(folder: Path, *, steps_per_epoch: int, first_step: int) -> Iterator[Board]:
    """Log into `folder`; what an earlier process logged at or after `first_step` is not shown any more."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - takes a second, and only the first process logs

    with SummaryWriter(str(folder), purge_step=first_step) as writer:
        yield Board(writer, steps_per_epoch=steps_per_epoch)
