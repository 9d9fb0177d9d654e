"""What a trained network is worth: its temperature, its quality on both splits, and what precision costs it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models import checkpoint
from models.card import Card, Metrics, PrecisionCheck
from models.repository import Repository
from models.variants import PRECISIONS, layouts, prepare
from training.calibration import fit_temperature
from training.config import EvaluationConfig
from training.data import Cifar10, Split, load_cifar10
from training.device import select_device
from training.errors import DataMissing, Diverged
from training.evaluation import accuracy, evaluate, measure
from training.report import Predictions, write_report


@dataclass(frozen=True)
class Assessment:
    """The temperature fitted on the validation split, the metrics of both splits with it, and each precision's cost.

    `test_probabilities` are (n, 10) in the order of the test split, on the CPU.
    """

    temperature: float
    validation: Metrics
    test: Metrics
    precisions: dict[str, PrecisionCheck]
    test_probabilities: torch.Tensor

    def for_card(self) -> dict[str, Any]:
        """Return the fields of a card that an assessment fills."""
        return {name: getattr(self, name) for name in ("temperature", "validation", "test", "precisions")}


def assess(network: nn.Module, data: Cifar10) -> Assessment:
    """Assess a network of float32 weights on the device of `data`; the only place where the test split is read.

    Raises:
        Diverged: the network's logits are not finite numbers.
    """
    labels = data.validation.labels.cpu()
    logits = evaluate(network, data.validation, dtype=torch.float32)
    if not logits.isfinite().all():  # the very last step can diverge behind a loss that was still finite
        raise Diverged("the logits are not finite after the last step; nothing was published, try a lower --lr")
    temperature = fit_temperature(logits, labels)
    test_logits = evaluate(network, data.test, dtype=torch.float32)
    return Assessment(
        temperature,
        validation=measure(logits, labels, temperature=temperature),
        test=measure(test_logits, data.test.labels.cpu(), temperature=temperature),
        precisions=_check_precisions(network, data.test, test_logits),
        test_probabilities=(test_logits / temperature).softmax(dim=1),
    )


def reassess(config: EvaluationConfig) -> Card:
    """Assess a published version afresh; return its card with what was found, written where that was asked for.

    The validation split is the one that the version's training held back.

    Raises:
        ModelError: there is no such version, or it is damaged.
        DataMissing: the data set is not where it was said to be, or not the one that was trained on.
        OSError: the card or the report cannot be written.
    """
    model, version = config.named()
    folder = Repository(config.repository).folder(model, version)
    device = select_device(config.device)
    loaded = checkpoint.load(folder, device=device)
    settings = loaded.card.training.config
    data = load_cifar10(
        config.data,
        validation_images=int(str(settings["validation_images"])),
        seed=int(str(settings["seed"])),
        download=False,
    ).to(device)
    if data.digest != loaded.card.training.data_digest:
        raise DataMissing(f"CIFAR-10 in {config.data} is not the data that {folder} was trained on: its digest differs")
    found = assess(loaded.network, data)
    card = loaded.card.model_copy(update=found.for_card())
    if config.update_card:
        checkpoint.update_card(folder, card)
    if config.report is not None:
        write_report(config.report, card, Predictions(data.test.to(torch.device("cpu")), found.test_probabilities), ())
    return card


def _check_precisions(network: nn.Module, test: Split, exact: torch.Tensor) -> dict[str, PrecisionCheck]:
    """Run the network as it is served in each precision but fp32, and compare it with fp32's logits."""
    checks = {}
    for name, dtype in PRECISIONS.items():
        if dtype == torch.float32:
            continue
        served = prepare(network, precision=name, layout=layouts(network, test.images.device)[0])
        logits = evaluate(served, test, dtype=dtype)
        checks[name] = PrecisionCheck(
            accuracy=accuracy(logits, test.labels.cpu()),
            agreement=accuracy(logits, exact.argmax(dim=1)),
        )
    return checks
