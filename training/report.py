"""The report of a run: `report.md` and its pictures, for a person who wants to see what the figures mean.

The contact sheet holds pictures of CIFAR-10, so a report stays beside the run and is not published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.card import Card
from models.labels import LABELS
from training.calibration import reliability
from training.data import Split
from training.learner import EpochResult

_WORST = 25


@dataclass(frozen=True)
class Predictions:
    """What the network said about a split: probabilities (n, 10) with the card's temperature, on the CPU."""

    split: Split
    probabilities: torch.Tensor

    def confusion(self) -> torch.Tensor:
        """Return int64 (10, 10): how many pictures of each label (row) were given each label (column)."""
        pairs = self.split.labels * len(LABELS) + self.probabilities.argmax(dim=1)
        return pairs.bincount(minlength=len(LABELS) ** 2).view(len(LABELS), len(LABELS))

    def worst(self, count: int) -> torch.Tensor:
        """Return the indices of up to `count` mistakes, those first whose own label seemed least probable."""
        of_label = self.probabilities.gather(1, self.split.labels[:, None]).squeeze(1)
        mistakes = (self.probabilities.argmax(dim=1) != self.split.labels).nonzero().squeeze(1)
        return mistakes[of_label[mistakes].argsort()][:count]


def write_report(folder: Path, card: Card, test: Predictions, history: Sequence[EpochResult]) -> Path:
    """Write `report.md` and its pictures into `folder`; return the path of the page.

    Without a history, as for an imported version, there are no curves.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"Confusion": _draw_confusion(test), "Accuracy of each label": _draw_labels(card)}
    pictures["Reliability"] = _draw_reliability(test)
    pictures["Worst mistakes"] = _draw_mistakes(test)
    if history:
        pictures = {"Loss and accuracy": _draw_curves(history), **pictures}
    sections = []
    for title, figure in pictures.items():
        name = f"{title.lower().replace(' ', '-')}.png"
        figure.savefig(folder / name, dpi=110, bbox_inches="tight")
        sections.append(f"## {title}\n\n![{title}]({name})\n")
    page = folder / "report.md"
    page.write_text("\n".join([_summary(card, test), *sections]))
    return page


def _summary(card: Card, test: Predictions) -> str:
    confusion = test.confusion().fill_diagonal_(0)
    true, given = divmod(int(confusion.argmax()), len(LABELS))
    settings = ", ".join(f"{name} {value}" for name, value in card.training.config.items() if name != "augmentation")
    return f"""# {card.model} version {card.version}

| | |
| --- | --- |
| architecture | {card.architecture}, {card.parameters:,} parameters |
| test accuracy | {card.test.accuracy:.2%} of {card.test.images:,} pictures |
| validation accuracy | {card.validation.accuracy:.2%} of {card.validation.images:,} pictures |
| expected calibration error | {card.test.ece:.4f} |
| before temperature {card.temperature:.3f} | {card.test.ece_uncalibrated:.4f} |
| most frequent mistake | {int(confusion.max())} times {LABELS[given]} for {LABELS[true]} |
| trained | {card.training.seconds / 60:.1f} minutes on {card.training.hardware} |
| settings | {settings} |
| augmentation | {card.training.config.get("augmentation", "unknown")} |
| command | `{card.training.command}` |
| code | {card.training.code_revision} |
"""


def _draw_curves(history: Sequence[EpochResult]) -> Figure:
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2)
    epochs = [result.epoch for result in history]
    left.plot(epochs, [result.loss for result in history])
    left.set(xlabel="epoch", ylabel="training loss")
    right.plot(epochs, [result.train_accuracy for result in history], label="training, augmented")
    right.plot(epochs, [result.validation_accuracy for result in history], label="validation")
    right.set(xlabel="epoch", ylabel="accuracy")
    right.legend()
    return figure


def _draw_confusion(test: Predictions) -> Figure:
    figure = Figure(figsize=(7, 7))
    axes = figure.subplots()
    confusion = test.confusion()
    shares = confusion.double() / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, counts in enumerate(confusion.tolist()):
        for column, count in enumerate(counts):
            axes.text(column, row, str(count), ha="center", va="center", color="white" if row == column else "black")
    axes.set(xlabel="predicted", ylabel="label")
    axes.set_xticks(range(len(LABELS)), LABELS, rotation=60)
    axes.set_yticks(range(len(LABELS)), LABELS)
    return figure


def _draw_labels(card: Card) -> Figure:
    figure = Figure(figsize=(8, 3.5))
    axes = figure.subplots()
    bars = axes.barh(list(card.test.accuracy_per_label), list(card.test.accuracy_per_label.values()))
    axes.bar_label(bars, fmt="{:.1%}", padding=2)
    axes.set(xlabel="test accuracy", xlim=(0, 1.1))
    axes.invert_yaxis()
    return figure


def _draw_reliability(test: Predictions) -> Figure:
    figure = Figure(figsize=(5, 5))
    axes = figure.subplots()
    bins = [found for found in reliability(test.probabilities, test.split.labels) if found.images]
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.plot([found.confidence for found in bins], [found.accuracy for found in bins], marker="o")
    for found in bins:
        axes.annotate(f"{found.images:,}", (found.confidence, found.accuracy), fontsize=7)
    axes.set(xlabel="mean confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    return figure


def _draw_mistakes(test: Predictions) -> Figure:
    figure = Figure(figsize=(9, 10))
    for axes, index in zip(figure.subplots(5, 5).flat, [*test.worst(_WORST).tolist(), *[None] * _WORST], strict=False):
        axes.axis("off")
        if index is not None:
            _draw_mistake(axes, test, index)
    return figure


def _draw_mistake(axes: Axes, test: Predictions, index: int) -> None:
    probability, given = test.probabilities[index].max(dim=0)
    axes.imshow(test.split.images[index].numpy())
    axes.set_title(f"{LABELS[given]} {probability:.0%}\nis {LABELS[test.split.labels[index]]}", fontsize=8)
