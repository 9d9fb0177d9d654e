from pathlib import Path

import pytest
import torch

from models.labels import LABELS
from tests.models.cards import make_card
from training.data import Split
from training.learner import EpochResult
from training.report import Predictions, write_report

PICTURES = {
    "accuracy-of-each-label.png",
    "confusion.png",
    "loss-and-accuracy.png",
    "reliability.png",
    "worst-mistakes.png",
}


@pytest.fixture
def predictions() -> Predictions:
    """Forty pictures, four of each label; every fourth is taken for the next label, less and less surely."""
    labels = torch.arange(40) % 10
    probabilities = torch.full((40, 10), 0.01)
    for index, label in enumerate(labels.tolist()):
        given = (label + 1) % 10 if index % 4 == 0 else label
        probabilities[index, given] = 0.9 - index / 100
        probabilities[index, label] += index / 1000
    images = torch.randint(256, (40, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Predictions(Split(images, labels), probabilities)


def test_confusion_counts_every_picture(predictions: Predictions) -> None:
    """A row is a label, a column what it was taken for."""
    confusion = predictions.confusion()

    assert confusion.sum() == 40
    assert confusion.sum(dim=1).tolist() == [4] * 10
    assert confusion.diagonal().sum() == 30
    assert confusion[0, 1] == 2


def test_worst_mistakes_come_first(predictions: Predictions) -> None:
    """Only mistakes are shown, the label that seemed least probable first."""
    assert predictions.worst(3).tolist() == [0, 4, 8]
    assert len(predictions.worst(25)) == 10


def test_report_of_a_run(tmp_path: Path, predictions: Predictions) -> None:
    """The page names the figures and shows every picture that lies beside it."""
    history = [EpochResult(epoch, 2.0 / epoch, 0.3, 0.4, 0.1, 1000.0, 5.0) for epoch in (1, 2, 3)]
    card = make_card()

    page = write_report(tmp_path / "report", card, predictions, history)

    text = page.read_text()
    assert {path.name for path in page.parent.iterdir()} == {"report.md", *PICTURES}
    assert all(f"({name})" in text for name in PICTURES)
    assert f"# {card.model} version {card.version}" in text
    assert f"{card.test.accuracy:.2%}" in text
    assert f"2 times {LABELS[1]} for {LABELS[0]}" in text


def test_report_without_a_history(tmp_path: Path, predictions: Predictions) -> None:
    """An imported version has no curves, and the rest of its report is the same."""
    page = write_report(tmp_path, make_card(), predictions, ())

    assert {path.name for path in tmp_path.iterdir()} == {"report.md", *PICTURES} - {"loss-and-accuracy.png"}
    assert "Loss and accuracy" not in page.read_text()
