import pytest
import torch

from models import registry
from models.labels import LABELS
from models.preprocessing import normalize
from tests.models import pictures
from training.data import Split
from training.evaluation import accuracy, evaluate, measure


def split_of(images: torch.Tensor) -> Split:
    return Split(images, torch.zeros(len(images), dtype=torch.int64))


def test_evaluation_is_one_plain_forward_pass() -> None:
    """The logits are those of a single pass over all pictures, in their order, the last short batch included."""
    network = registry.build("quick").eval()
    images = pictures.noise(1203)

    logits = evaluate(network, split_of(images), dtype=torch.float32)

    with torch.inference_mode():
        expected = network(normalize(images, dtype=torch.float32))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_evaluation_does_not_learn() -> None:
    """The network is left in evaluation mode, and no running statistic has moved."""
    network = registry.build("whitened").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    evaluate(network, split_of(pictures.noise(20)), dtype=torch.float32)

    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_low_precision_gives_float32_logits() -> None:
    """Computing in bf16 changes the logits a little, not their type."""
    network = registry.build("quick")
    split = split_of(pictures.noise(20))

    precise = evaluate(network, split, dtype=torch.float32)
    quick = evaluate(network, split, dtype=torch.bfloat16)

    assert quick.dtype == torch.float32
    assert not torch.equal(quick, precise)
    torch.testing.assert_close(quick, precise, rtol=0.1, atol=0.05)


def test_accuracy_counts_the_largest_logit() -> None:
    """Three of four rows name their label."""
    logits = torch.eye(10)[[0, 1, 2, 3]]

    assert accuracy(logits, torch.tensor([0, 1, 2, 4])) == 0.75


def test_metrics_of_known_logits() -> None:
    """The card's metrics count pictures, accuracy over all and per label; a label without pictures has 0."""
    logits = 50 * torch.eye(10)[[0, 0, 1, 9]]

    metrics = measure(logits, torch.tensor([0, 1, 1, 9]), temperature=1.0)

    assert metrics.images == 4
    assert metrics.accuracy == 0.75
    assert list(metrics.accuracy_per_label) == list(LABELS)
    assert metrics.accuracy_per_label["airplane"] == 1.0
    assert metrics.accuracy_per_label["automobile"] == 0.5
    assert metrics.accuracy_per_label["truck"] == 1.0
    assert metrics.accuracy_per_label["bird"] == 0.0


def test_metrics_tell_what_the_temperature_did() -> None:
    """The calibration error is given with the temperature and without it."""
    logits = 50 * torch.eye(10)[[0, 0, 1, 9]]

    metrics = measure(logits, torch.tensor([0, 1, 1, 9]), temperature=1e6)

    assert metrics.ece_uncalibrated == pytest.approx(0.25)
    assert metrics.ece == pytest.approx(0.65, abs=1e-3)
