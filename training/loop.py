"""The training run: `train` prepares, fits, assesses and publishes; `train_one_epoch` is the algorithm."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from models import registry
from models.preprocessing import normalize
from training.assessment import assess
from training.config import TrainingConfig
from training.data import Cifar10, EpochLoader, load_cifar10
from training.device import select_device, select_dtype
from training.errors import Diverged
from training.evaluation import accuracy, evaluate
from training.interruption import interruptible
from training.publication import Published, check_writable, code_revision, publish
from training.schedule import lr_schedule

_WHITENING_IMAGES = 5000


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run works with: the data and the network are on `device`, the network computes in `dtype`."""

    config: TrainingConfig
    data: Cifar10
    network: nn.Module
    device: torch.device
    dtype: torch.dtype
    code_revision: str


def train(config: TrainingConfig) -> Published:
    """Train as `config` says, read the test split once at the end, publish, return what was published.

    Raises:
        DataMissing: the data set is not where it was said to be.
        DeviceMissing: the device that was asked for is not there.
        Diverged: the loss became infinite or not a number.
        Interrupted: SIGINT or SIGTERM came before the last epoch's end.
        OSError: the repository cannot be written.
    """
    started = time.monotonic()
    check_writable(config.repository)  # before the hours of work, not after them
    run = _prepare(config)
    with interruptible() as raise_if_interrupted:
        _fit(run, raise_if_interrupted)
    assessment = assess(run.network, run.data)
    return publish(run, assessment, seconds=time.monotonic() - started)


def train_one_epoch(
    model: nn.Module,
    loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[], float],
    *,
    label_smoothing: float,
    on_step: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None],
) -> None:
    """Take one optimizer step per batch of `loader`.

    Args:
        model: left in training mode; inputs that are not float32 are computed under autocast.
        loader: yields inputs (batch, 3, 32, 32) and labels (batch,).
        optimizer: its learning rate is set before each step.
        schedule: returns the learning rate of the next step.
        label_smoothing: 0 is none.
        on_step: is told (loss, logits, labels) of each step; may show them, must not change them.
    """
    model.train()
    for inputs, labels in loader:
        with torch.autocast(inputs.device.type, dtype=inputs.dtype, enabled=inputs.dtype != torch.float32):
            logits = model(inputs)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        lr = schedule()
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        on_step(loss.detach(), logits.detach(), labels)


@runtime_checkable
class _InitializedFromData(Protocol):
    def initialize_from(self, inputs: torch.Tensor) -> None: ...


def _prepare(config: TrainingConfig) -> Run:
    device = select_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    data = load_cifar10(
        config.data, validation_images=config.validation_images, seed=config.seed, download=config.download
    ).to(device)
    torch.manual_seed(config.seed)
    network = registry.build(config.architecture).to(device).to(memory_format=torch.channels_last)
    if isinstance(network, _InitializedFromData):
        network.initialize_from(normalize(data.train.images[:_WHITENING_IMAGES], dtype=torch.float32))
    return Run(config, data, network, device, select_dtype(config.precision, device), code_revision())


def _fit(run: Run, raise_if_interrupted: Callable[[], None]) -> None:
    recipe = run.config.recipe()
    loader = EpochLoader(
        run.data.train,
        batch_size=min(recipe.batch_size, len(run.data.train)),
        augmentation=recipe.augmentation,
        seed=run.config.seed,
        dtype=run.dtype,
    )
    optimizer = _build_optimizer(run.network, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    schedule = _Schedule(recipe.epochs * len(loader), recipe.lr, recipe.warmup_fraction)
    for epoch in range(recipe.epochs):
        loader.epoch = epoch
        with _Progress(loader, epoch=epoch, epochs=recipe.epochs) as progress:
            train_one_epoch(
                run.network,
                _until_interrupted(progress, raise_if_interrupted),
                optimizer,
                schedule,
                label_smoothing=recipe.label_smoothing,
                on_step=progress.show,
            )
            logits = evaluate(run.network, run.data.validation, dtype=run.dtype)
            progress.finish(validation_accuracy=accuracy(logits, run.data.validation.labels.cpu()))


def _until_interrupted(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]], raise_if_interrupted: Callable[[], None]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in batches:
        raise_if_interrupted()
        yield batch


def _build_optimizer(network: nn.Module, *, momentum: float, weight_decay: float) -> torch.optim.SGD:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=True)


class _Schedule:
    """Call it once per step; it counts."""

    def __init__(self, steps: int, peak: float, warmup_fraction: float) -> None:
        self._steps = steps
        self._peak = peak
        self._warmup_fraction = warmup_fraction
        self._step = 0

    def __call__(self) -> float:
        lr = lr_schedule(self._step, steps=self._steps, peak=self._peak, warmup_fraction=self._warmup_fraction)
        self._step += 1
        return lr


class _Progress:
    """One epoch's bar on a terminal, and one line per epoch in any case."""

    def __init__(self, loader: EpochLoader, *, epoch: int, epochs: int) -> None:
        self._bar = tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", unit="batch", leave=False, disable=None)
        self._title = f"epoch {epoch + 1:>3}/{epochs}"
        self._started = time.monotonic()
        self._losses: list[torch.Tensor] = []
        self._correct: list[torch.Tensor] = []
        self._images = 0

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from self._bar

    def show(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in one step. The numbers stay on the device until the bar is redrawn."""
        self._losses.append(loss)
        self._correct.append((logits.argmax(dim=1) == labels).sum())
        self._images += len(labels)
        if not self._bar.disable and len(self._losses) % 10 == 0:
            self._bar.set_postfix(loss=f"{float(loss):.3f}", accuracy=f"{self._accuracy():.1%}")

    def finish(self, *, validation_accuracy: float) -> None:
        """Print the epoch's line.

        Raises:
            Diverged: the loss is not a finite number any more.
        """
        seconds = time.monotonic() - self._started
        loss = float(torch.stack(self._losses).mean())
        if not math.isfinite(loss):
            raise Diverged(f"{self._title.strip()}: the loss is {loss}; nothing was published, try a lower --lr")
        tqdm.write(
            f"{self._title}  loss {loss:.4f}  train accuracy {self._accuracy():6.2%}"
            f"  validation accuracy {validation_accuracy:6.2%}  {self._images / seconds:,.0f} images/s"
        )
        sys.stdout.flush()  # into a file or a pipe, too, the line comes when the epoch ends

    def _accuracy(self) -> float:
        return int(torch.stack(self._correct).sum()) / self._images
