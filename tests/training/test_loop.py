import io
import math
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from models import checkpoint
from models.repository import Repository
from models.verification import read_card
from tests.training.runs import published_by, small_run
from tests.training.tiny_cifar10 import TEST_IMAGES
from training import learner, loop
from training.calibration import fit_temperature
from training.config import TrainingConfig
from training.data import EpochLoader, load_cifar10
from training.errors import Diverged
from training.evaluation import evaluate, measure
from training.loop import train, train_one_epoch

CPU = torch.device("cpu")
Batch = tuple[torch.Tensor, torch.Tensor]


class Terminal(io.StringIO):
    """Where a person looks."""

    def isatty(self) -> bool:
        return True


class Pipe(io.StringIO):
    """Whoever reads at the other end sees what was flushed: `flushed` is how many lines that was, each time."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[int] = []

    def flush(self) -> None:
        self.flushed.append(self.getvalue().count("\n"))


class RecordingLoader(EpochLoader):
    """A loader that notes in `epochs` which epochs were drawn."""

    epochs: ClassVar[list[int]] = []

    def __iter__(self) -> Iterator[Batch]:
        self.epochs.append(self.epoch)
        return super().__iter__()


class Recorder:
    """An `on_step` that keeps what it is told."""

    def __init__(self) -> None:
        self.losses: list[torch.Tensor] = []
        self.logits: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def __call__(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.losses.append(loss)
        self.logits.append(logits)
        self.labels.append(labels)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.fixture
def config(tiny_cifar10: Path, tmp_path: Path) -> TrainingConfig:
    """Two epochs of `quick` on the tiny data set, three batches each."""
    return small_run(tiny_cifar10, tmp_path, epochs=2)


def separable_batches(count: int, *, dtype: torch.dtype = torch.float32) -> list[Batch]:
    """Return batches of 10 pictures whose colours give their labels away."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randn((10, 3, 1, 1), generator=generator)
    labels = torch.arange(10)
    return [
        ((colours + 0.1 * torch.randn((10, 3, 32, 32), generator=generator)).to(dtype), labels) for _ in range(count)
    ]


def one_epoch(
    network: nn.Module,
    batches: list[Batch],
    *,
    rates: list[float],
    optimizer: torch.optim.Optimizer | None = None,
    label_smoothing: float = 0.0,
) -> Recorder:
    """Train one epoch with these learning rates and return what `on_step` was told."""
    recorder = Recorder()
    train_one_epoch(
        network,
        batches,
        optimizer or torch.optim.SGD(network.parameters(), lr=0.0),
        iter(rates).__next__,
        label_smoothing=label_smoothing,
        on_step=recorder,
    )
    return recorder


def test_epoch_lowers_the_loss(network: nn.Module) -> None:
    """On pictures that can be told apart, each epoch ends with a lower loss than the one before."""
    batches = separable_batches(10)

    epochs = [torch.stack(one_epoch(network, batches, rates=[0.05] * 10).losses).mean().item() for _ in range(3)]

    assert epochs[0] > epochs[1] > epochs[2]
    assert epochs[2] < math.log(10) / 2


def test_one_step_per_batch_at_one_rate_for_all(network: nn.Module) -> None:
    """Every batch is one step, the schedule moves on once per step, and all parameter groups follow it."""
    groups = [{"params": [parameter]} for parameter in network.parameters()]
    optimizer = torch.optim.SGD(groups, lr=123.0)
    used: list[list[float]] = []
    optimizer.register_step_pre_hook(lambda *_: used.append([group["lr"] for group in optimizer.param_groups]))

    one_epoch(network, separable_batches(3), rates=[0.1, 0.2, 0.3], optimizer=optimizer)

    assert used == [[0.1] * 4, [0.2] * 4, [0.3] * 4]


def test_step_is_plain_gradient_descent(network: nn.Module) -> None:
    """A step moves the weights against the gradient of its own batch's mean loss; older gradients do not count."""
    inputs, labels = separable_batches(1)[0]
    weights = list(network.parameters())
    gradients = torch.autograd.grad(nn.functional.cross_entropy(network(inputs), labels), weights)
    expected = [weight.detach() - 0.1 * gradient for weight, gradient in zip(weights, gradients, strict=True)]
    for weight in weights:
        weight.grad = torch.ones_like(weight)

    one_epoch(network, [(inputs, labels)], rates=[0.1])

    torch.testing.assert_close([weight.detach() for weight in weights], expected)


def test_network_is_in_training_mode(network: nn.Module) -> None:
    """An epoch that follows an evaluation trains again."""
    network.eval()

    one_epoch(network, separable_batches(1), rates=[0.0])

    assert network.training


def test_on_step_is_told_of_every_step(network: nn.Module) -> None:
    """Whoever watches gets loss, logits and labels of each batch, without their history."""
    batches = separable_batches(3)

    told = one_epoch(network, batches, rates=[0.1] * 3)

    assert [logits.shape for logits in told.logits] == [(10, 10)] * 3
    assert all(labels is batch[1] for labels, batch in zip(told.labels, batches, strict=True))
    assert not any(tensor.requires_grad for tensor in told.losses + told.logits)


def test_smoothing_reaches_the_loss(network: nn.Module) -> None:
    """Label smoothing is that of the loss function, with the given strength."""
    batches = separable_batches(1)

    told = one_epoch(network, batches, rates=[0.0], label_smoothing=0.2)

    expected = nn.functional.cross_entropy(told.logits[0], batches[0][1], label_smoothing=0.2)
    torch.testing.assert_close(told.losses[0], expected)


def test_low_precision_keeps_the_weights_precise(network: nn.Module) -> None:
    """bf16 inputs are computed in bf16; loss and weights stay float32, and it still learns."""
    batches = separable_batches(10, dtype=torch.bfloat16)

    told = one_epoch(network, batches, rates=[0.05] * 10)

    assert {logits.dtype for logits in told.logits} == {torch.bfloat16}
    assert {tensor.dtype for tensor in [*told.losses, *network.parameters()]} == {torch.float32}
    assert told.losses[-1] < told.losses[0]


def test_run_follows_the_whole_schedule(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run asks for every step of its schedule once: epochs times batches, from the first to the last."""
    asked: list[tuple[int, int]] = []

    def recording_schedule(step: int, *, steps: int, peak: float, warmup_fraction: float, shape: str) -> float:
        asked.append((step, steps))
        return peak * warmup_fraction * (shape == "triangle")

    monkeypatch.setattr(learner, "lr_schedule", recording_schedule)

    train(config)

    assert asked == [(step, 6) for step in range(6)]


def test_every_epoch_is_drawn_anew(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch has its own order and augmentation, not those of the first one again."""
    monkeypatch.setattr(loop, "EpochLoader", RecordingLoader)
    monkeypatch.setattr(RecordingLoader, "epochs", [])

    train(config.model_copy(update={"epochs": 3}))

    assert RecordingLoader.epochs == [0, 1, 2]


def test_run_publishes_a_card_that_tells_everything(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published version says what it is, how it was made, from what, where, with what, and how good it is."""
    monkeypatch.setattr(sys, "argv", ["cifarserve-train", "--epochs", "2", "--data", "a folder"])

    published = published_by(config)

    card = published.card
    assert published.folder == config.repository / "quick" / "1"
    assert (card.model, card.version, card.architecture, card.parameters) == ("quick", 1, "quick", 145_578)
    assert datetime.now(UTC) - card.created < timedelta(minutes=1)
    assert (card.validation.images, card.test.images) == (50, TEST_IMAGES)
    assert card.precisions.keys() == {"bf16"}
    training = card.training
    assert training.command == "cifarserve-train --epochs 2 --data 'a folder'"
    assert training.config == {
        "architecture": "quick",
        "epochs": 2,
        "batch_size": 50,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "label_smoothing": 0.0,
        "warmup_fraction": 0.2,
        "augmentation": {"flip": True, "translate_px": 2, "rotate_degrees": 0, "cutout_px": 0},
        "recipe": "best",
        "optimizer": "sgd",
        "schedule": "triangle",
        "ema_decay": 0.0,
        "channels_last": True,
        "threads": 1,
        "processes": 1,
        "seed": 0,
        "validation_images": 50,
        "device": "cpu",
        "precision": "float32",
    }
    assert training.data_digest == load_cifar10(config.data, validation_images=10, seed=3, download=False).digest
    assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", training.code_revision)
    assert training.libraries.keys() == {"python", "torch", "torchvision"}
    assert training.hardware
    assert training.seconds > 0


def test_what_the_card_says_is_reproduced(config: TrainingConfig) -> None:
    """Whoever loads the version finds the metrics and the temperature of its card, and it has learned something."""
    published = published_by(config.model_copy(update={"epochs": 8}))

    loaded = checkpoint.load(published.folder, device=CPU)
    data = load_cifar10(config.data, validation_images=50, seed=0, download=False)
    validation, test = (evaluate(loaded.network, split, dtype=torch.float32) for split in (data.validation, data.test))
    temperature = fit_temperature(validation, data.validation.labels)
    assert loaded.card.temperature == pytest.approx(temperature, rel=1e-3)
    assert loaded.card.temperature != 1.0
    assert loaded.card.test == measure(test, data.test.labels, temperature=loaded.card.temperature)
    assert loaded.card.test.accuracy > 0.5


def test_second_run_is_the_second_version(config: TrainingConfig) -> None:
    """Another run publishes the next version and leaves the first one alone; the same seed gives the same weights."""
    first = published_by(config)
    before = (first.folder / "model.json").read_bytes()

    second = published_by(config)

    assert second.card.version == 2
    assert Repository(config.repository).versions("quick") == (1, 2)
    assert (first.folder / "model.json").read_bytes() == before
    states = [checkpoint.load(run.folder, device=CPU).network.state_dict() for run in (first, second)]
    torch.testing.assert_close(states[0], states[1])


def test_model_can_have_a_name_of_its_own(config: TrainingConfig) -> None:
    """A network can be published under another name than its architecture's."""
    published = published_by(config.model_copy(update={"model": "mine", "epochs": 1}))

    assert published.folder == config.repository / "mine" / "1"
    assert (published.card.model, published.card.architecture) == ("mine", "quick")


def test_default_network_is_whitened_with_the_data(config: TrainingConfig) -> None:
    """The network that wants to see pictures before training sees the training pictures."""
    published = published_by(config.model_copy(update={"architecture": "whitened", "epochs": 1, "precision": "bf16"}))

    weights = checkpoint.load(published.folder, device=CPU).network.state_dict()["stem.weight"]
    assert torch.equal(weights[:12], -weights[12:])
    assert published.card.training.config["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("epochs", "batch_size", "message"),
    [
        (3, 50, r"epoch   1/3: the loss is (nan|inf); nothing was published, try a lower --lr"),
        (1, 150, r"the logits are not finite after the last step; nothing was published, try a lower --lr"),
    ],
    ids=["in the first epoch", "in the last step"],
)
def test_divergence_publishes_nothing(config: TrainingConfig, epochs: int, batch_size: int, message: str) -> None:
    """A run whose numbers leave the finite, be it in the very last step, stops and publishes nothing."""
    with pytest.raises(Diverged, match=message):
        train(config.model_copy(update={"lr": 1e30, "epochs": epochs, "batch_size": batch_size}))

    assert Repository(config.repository).models() == ()


def test_repository_is_tried_before_the_work(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that cannot be written is noticed before the data is read, not after hours of training."""
    config.repository.touch()
    monkeypatch.setattr(loop, "load_cifar10", lambda *_, **__: pytest.fail("the data was read"))

    with pytest.raises(FileExistsError):
        train(config)


def test_threads_are_set(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of CPU threads is the one that was asked for; 0 leaves it to the machine."""
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)

    for threads in (0, 3):
        train(config.model_copy(update={"threads": threads, "epochs": 1}))

    assert asked == [3]


def test_large_batch_is_the_whole_data(config: TrainingConfig) -> None:
    """A batch size beyond the number of pictures means all of them in one step."""
    published = published_by(config.model_copy(update={"batch_size": 1000, "epochs": 1}))

    assert read_card(published.folder) == published.card


def test_one_line_per_epoch(config: TrainingConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, each epoch prints one line with loss, accuracies and speed, and no bar."""
    train(config)

    output = capsys.readouterr()
    pattern = (
        r"epoch +{}/2  loss \d\.\d{{4}}  train accuracy +[\d.]+%  validation accuracy +[\d.]+%"
        r"  [\d,]+ images/s  \d+ min left"
    )
    lines = output.out.splitlines()
    assert [bool(re.fullmatch(pattern.format(epoch), line)) for epoch, line in enumerate(lines, 1)] == [True, True]
    assert output.err == ""


def test_line_is_seen_when_the_epoch_ends(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that goes into a file or a pipe is not held back until the run is over."""
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe)

    train(config)

    assert {1, 2} <= set(pipe.flushed)


def test_board_and_report_lie_beside_the_state(config: TrainingConfig) -> None:
    """A run leaves its log for TensorBoard and its report in its folder."""
    train(config.model_copy(update={"tensorboard": True, "report": True}))

    assert list((config.folder() / "tensorboard").glob("events.out.tfevents.*"))
    assert "Loss and accuracy" in (config.folder() / "report" / "report.md").read_text()


def test_run_folder_has_a_name(config: TrainingConfig) -> None:
    """Without one, a run's folder is named for the model and the recipe."""
    unnamed = config.model_copy(update={"run_folder": None, "model": "mine"})

    assert unnamed.folder() == Path("runs/mine-best")


def test_bar_on_a_terminal(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar shows how far the epoch is, and what loss and accuracy are so far."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    train(config.model_copy(update={"batch_size": 10}))

    shown = terminal.getvalue()
    assert "epoch 1/2" in shown
    assert "epoch 2/2" in shown
    assert re.search(r"/150 .* images/s.*accuracy=\d+\.\d%, loss=\d\.\d{3}", shown)
