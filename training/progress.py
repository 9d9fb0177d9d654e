"""What a person sees of an epoch: a bar on a terminal, and one line at the end in any case."""

import math
import sys
import time
from collections.abc import Iterator

import torch
from tqdm import tqdm

from training.data import EpochLoader
from training.distributed import World
from training.errors import Diverged
from training.learner import EpochResult

_Batch = tuple[torch.Tensor, torch.Tensor]


class Progress:
    """One epoch's bar and line. The first process shows them; the figures are those of all processes."""

    def __init__(self, loader: EpochLoader, *, epochs: int, world: World) -> None:
        self._world = world
        self._epoch = loader.epoch + 1
        self._epochs = epochs
        self._steps_per_epoch = len(loader)
        self._bar = tqdm(
            loader,
            desc=f"epoch {self._epoch}/{epochs}",
            unit=" images",
            unit_scale=loader.batch_size,
            leave=False,
            initial=loader.step,
            disable=None if world.is_first else True,
        )
        self._started = time.monotonic()
        self._losses: list[torch.Tensor] = []
        self._correct: list[torch.Tensor] = []
        self._images = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __iter__(self) -> Iterator[_Batch]:
        yield from self._bar

    def show(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in one step. The numbers stay on the device until the bar is redrawn."""
        self._losses.append(loss)
        self._correct.append((logits.argmax(dim=1) == labels).sum())
        self._images += len(labels)
        if not self._bar.disable and len(self._losses) % 10 == 0:
            accuracy = int(torch.stack(self._correct).sum()) / self._images
            self._bar.set_postfix(loss=f"{float(loss):.3f}", accuracy=f"{accuracy:.1%}")

    def result(self, *, lr: float) -> EpochResult:
        """Return what is known of the epoch now that its last step is done; its validation comes later.

        Raises:
            Diverged: the loss is not a finite number any more; in every process.
        """
        totals = torch.stack([torch.stack(self._losses).sum(), torch.stack(self._correct).sum()]).double().cpu()
        loss, correct = self._world.total(totals.to(self._losses[0].device)).tolist()
        steps, images = len(self._losses) * self._world.size, self._images * self._world.size
        if not math.isfinite(loss):
            title = f"epoch {self._epoch:>3}/{self._epochs}"
            raise Diverged(f"{title}: the loss is {loss / steps}; nothing was published, try a lower --lr")
        seconds = time.monotonic() - self._started
        epoch_seconds = seconds * self._steps_per_epoch / len(self._losses)  # the first one after a resumption is short
        return EpochResult(self._epoch, loss / steps, correct / images, 0.0, lr, images / seconds, epoch_seconds)

    def losses(self) -> list[float]:
        """Return the loss of every step so far, of this process's share."""
        losses: list[float] = torch.stack(self._losses).tolist()
        return losses


def write_line(result: EpochResult, *, epochs: int) -> None:
    """Print a finished epoch's line."""
    left = (epochs - result.epoch) * result.seconds
    tqdm.write(
        f"epoch {result.epoch:>3}/{epochs}  loss {result.loss:.4f}"
        f"  train accuracy {result.train_accuracy:6.2%}  validation accuracy {result.validation_accuracy:6.2%}"
        f"  {result.images_per_second:,.0f} images/s  {left / 60:.0f} min left"
    )
    sys.stdout.flush()  # into a file or a pipe, too, the line comes when the epoch ends
