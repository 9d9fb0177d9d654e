"""How good a network is on a split: one plain forward pass a picture, no test-time augmentation."""

import torch
from torch import nn

from models.card import Metrics
from models.labels import LABELS
from models.preprocessing import normalize
from training.calibration import expected_calibration_error
from training.data import Split

_BATCH_SIZE = 500


@torch.inference_mode()
def evaluate(network: nn.Module, split: Split, *, dtype: torch.dtype) -> torch.Tensor:
    """Return the logits of every picture: float32 (n, 10) on the CPU. Leaves the network in evaluation mode."""
    network.eval()
    logits = []
    autocast = next(network.parameters()).dtype != dtype  # weights in float32 are computed in `dtype`
    for start in range(0, len(split), _BATCH_SIZE):
        images = split.images[start : start + _BATCH_SIZE]
        with torch.autocast(images.device.type, dtype=dtype, enabled=autocast):
            logits.append(network(normalize(images, dtype=dtype)).float().cpu())
    return torch.cat(logits)


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the fraction of rows whose largest logit is the label's."""
    return float((logits.argmax(dim=1) == labels).double().mean())


def measure(logits: torch.Tensor, labels: torch.Tensor, *, temperature: float) -> Metrics:
    """Return the card's metrics for logits (n, 10) and labels (n,), both on the CPU."""
    correct = logits.argmax(dim=1) == labels
    return Metrics(
        images=len(labels),
        accuracy=float(correct.double().mean()),
        accuracy_per_label={
            name: float(correct[labels == index].double().mean()) if (labels == index).any() else 0.0
            for index, name in enumerate(LABELS)
        },
        ece=expected_calibration_error((logits / temperature).softmax(dim=1), labels),
        ece_uncalibrated=expected_calibration_error(logits.softmax(dim=1), labels),
    )
