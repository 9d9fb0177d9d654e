"""The training run: `train` prepares, fits, assesses and publishes; `train_one_epoch` is the algorithm."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn import functional

from models import registry
from models.preprocessing import normalize
from training.assessment import assess
from training.config import TrainingConfig
from training.convolution import speed_up_convolutions
from training.data import Cifar10, EpochLoader, load_cifar10
from training.device import keep_freed_memory, select_device, select_dtype
from training.distributed import World, joined_world
from training.errors import Interrupted, StateMismatch, UnevenBatch
from training.evaluation import accuracy, evaluate
from training.interruption import interruptible
from training.learner import EpochResult, Learner
from training.progress import Progress, write_line
from training.publication import Published, check_writable, code_revision, publish
from training.report import Predictions, write_report
from training.state import RunFolder
from training.tensorboard import Board, opened_board

_WHITENING_IMAGES = 5000
_SAMPLES = 32


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run works with: the data and the network are on `device`, the network computes in `dtype`."""

    config: TrainingConfig
    data: Cifar10
    network: nn.Module
    device: torch.device
    dtype: torch.dtype
    code_revision: str
    world: World
    is_interrupted: Callable[[], bool]

    def settings(self) -> dict[str, Any]:
        """Return what decides the weights that come out, for the card and for whoever resumes."""
        return {
            **dataclasses.asdict(self.config.hyper_parameters()),
            "architecture": self.config.architecture,
            "recipe": self.config.recipe,
            "seed": self.config.seed,
            "validation_images": self.config.validation_images,
            "precision": str(self.dtype).removeprefix("torch."),
            "channels_last": self.config.channels_last,
        }

    def samples(self) -> torch.Tensor:
        """Return the first training pictures as the network gets them, float32."""
        return normalize(self.data.train.images[:_SAMPLES], dtype=torch.float32)


def train(config: TrainingConfig) -> Published | None:
    """Train as `config` says, read the test split once at the end, publish, return what was published.

    Of several processes, only the first one publishes; the others return None.

    Raises:
        DataMissing: the data set is not where it was said to be.
        DeviceMissing: the device that was asked for is not there.
        UnevenBatch: a batch cannot be shared equally among the processes.
        StateMismatch: there is nothing to resume, or it is another run's, or an unfinished run is in the way.
        Diverged: the loss became infinite or not a number.
        Interrupted: SIGINT or SIGTERM came before the version was published.
        OSError: the repository or the run's folder cannot be written.
    """
    check_writable(config.repository, config.model_name())  # before the hours of work, not after them
    folder = RunFolder(config.folder(), keep=config.keep)
    device = select_device(config.device)
    with interruptible() as is_interrupted, joined_world(device) as world:
        run = _prepare(config, device, world, is_interrupted)
        learner = _begin_or_resume(run, folder)
        _fit(run, learner, folder)
        return _publish(run, learner, folder) if world.is_first else None


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


def _prepare(config: TrainingConfig, device: torch.device, world: World, is_interrupted: Callable[[], bool]) -> Run:
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)
    data = load_cifar10(
        config.data, validation_images=config.validation_images, seed=config.seed, download=config.download
    ).to(device)
    torch.manual_seed(config.seed)
    network = registry.build(config.architecture).to(device)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if isinstance(network, _InitializedFromData):
        network.initialize_from(normalize(data.train.images[:_WHITENING_IMAGES], dtype=torch.float32))
    speed_up_convolutions(network)
    dtype = select_dtype(config.precision, device)
    return Run(config, data, network, device, dtype, code_revision(), world, is_interrupted)


def _build_loader(run: Run) -> EpochLoader:
    recipe, world = run.config.hyper_parameters(), run.world
    batch_size = min(recipe.batch_size, len(run.data.train))
    if batch_size % world.size:
        raise UnevenBatch(f"--batch-size {batch_size}: expected a multiple of the {world.size} processes")
    return EpochLoader(
        run.data.train,
        batch_size=batch_size,
        augmentation=recipe.augmentation,
        seed=run.config.seed,
        dtype=run.dtype,
        share=(world.rank, world.size),
    )


def _begin_or_resume(run: Run, folder: RunFolder) -> Learner:
    recipe = run.config.hyper_parameters()
    learner = Learner(run.network, recipe, steps_per_epoch=len(_build_loader(run)))
    if run.config.resume:
        state = folder.load(device=run.device)
        _refuse_other_settings(state.get("settings", {}), run.settings() | {"data_digest": run.data.digest})
        learner.load_state_dict(state)
        return learner
    if folder.newest() is not None and not run.config.restart:  # every process looks, so that none waits for another
        _refuse_unfinished(folder, folder.load(device=run.device))
    if run.world.is_first:
        folder.clear()
    return learner


def _refuse_unfinished(folder: RunFolder, state: dict[str, Any]) -> None:
    epochs = state["settings"]["epochs"]
    if state["epoch"] < epochs:
        raise StateMismatch(
            f"{folder.path} holds an unfinished run ({state['epoch']} of {epochs} epochs): "
            "expected --resume to go on, or --restart to begin again"
        )


def _refuse_other_settings(saved: dict[str, Any], current: dict[str, Any]) -> None:
    for name, value in current.items():
        if name in saved and saved[name] != value:
            raise StateMismatch(f"--resume: the saved run has {name} {saved[name]}, this one {value}")


def _fit(run: Run, learner: Learner, folder: RunFolder) -> None:
    loader = _build_loader(run)
    trained = run.world.wrap(run.network)
    with _board(run, learner, folder) as board:
        while learner.epoch < learner.recipe.epochs:
            loader.epoch, loader.step = learner.epoch, learner.step
            try:
                result = _learn_one_epoch(run, learner, trained, loader, board)
            except Interrupted:
                _save(run, learner, folder)
                raise
            is_best = learner.count_epoch(result)
            _save(run, learner, folder, is_best=is_best)
            if run.world.is_first:  # a line that was read is a state that was saved
                write_line(result, epochs=learner.recipe.epochs)


def _learn_one_epoch(
    run: Run,
    learner: Learner,
    trained: nn.Module,
    loader: EpochLoader,
    board: Board | None,
) -> EpochResult:
    started = time.monotonic()
    try:
        with Progress(loader, epochs=learner.recipe.epochs, world=run.world) as progress:
            train_one_epoch(
                trained,
                _steps(progress, run, learner),
                learner.optimizer,
                learner.next_lr,
                label_smoothing=learner.recipe.label_smoothing,
                on_step=progress.show,
            )
            result = progress.result(lr=learner.optimizer.param_groups[0]["lr"])
            if run.world.is_first:
                logits = evaluate(learner.published, run.data.validation, dtype=run.dtype)
                validation_accuracy = accuracy(logits, run.data.validation.labels.cpu())
                result = dataclasses.replace(result, validation_accuracy=validation_accuracy)
            if board is not None:
                board.show_epoch(result, progress.losses())
                board.show_first_layer(learner.published, run.samples(), epoch=result.epoch)
            return result
    finally:
        learner.seconds += time.monotonic() - started


def _steps(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    run: Run,
    learner: Learner,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches; before each step, stop if a signal came; after each step, count it."""
    for batch in batches:
        if run.world.agree(on=run.is_interrupted(), device=run.device):
            raise Interrupted(
                f"interrupted in epoch {learner.epoch + 1} of {learner.recipe.epochs}; nothing was published, "
                "--resume goes on from here"
            )
        yield batch
        learner.count_step()


def _publish(run: Run, learner: Learner, folder: RunFolder) -> Published:
    if run.config.publish == "best":
        learner.load_state_dict(folder.best(device=run.device))
    assessment = assess(learner.published, run.data)
    if run.is_interrupted():
        raise Interrupted("interrupted; nothing was published, --resume goes on from here")
    published = publish(dataclasses.replace(run, network=learner.published), assessment, seconds=learner.seconds)
    if run.config.report:
        test = Predictions(run.data.test.to(torch.device("cpu")), assessment.test_probabilities)
        write_report(folder.path / "report", published.card, test, learner.history)
    return published


@contextlib.contextmanager
def _board(run: Run, learner: Learner, folder: RunFolder) -> Iterator[Board | None]:
    if not (run.config.tensorboard and run.world.is_first):
        yield None
        return
    first_step = learner.epoch * learner.steps_per_epoch
    with opened_board(
        folder.path / "tensorboard", steps_per_epoch=learner.steps_per_epoch, first_step=first_step
    ) as board:
        if not learner.history:
            board.show_network(learner.published, run.samples())
        yield board


def _save(run: Run, learner: Learner, folder: RunFolder, *, is_best: bool = False) -> None:
    if run.world.is_first:
        settings = run.settings() | {"data_digest": run.data.digest}
        state = {"settings": settings, **learner.state_dict()}
        folder.save(state, epoch=learner.epoch, step=learner.step, best=is_best)
