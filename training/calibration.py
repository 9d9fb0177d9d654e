"""Making probabilities mean what they say: one temperature, and the error that is left."""

from dataclasses import dataclass

import torch
from torch.nn import functional

_BINS = 15


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature that minimizes the negative log-likelihood of softmax(logits / temperature).

    Args:
        logits: float32 (n, classes), from pictures that were not trained on.
        labels: int64 (n,).

    Source: C. Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599, section 4.2.
    """
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    logits = logits.double()
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(logits / log_temperature.exp(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    # A net that is right (or wrong) everywhere has no best temperature; keep the number usable.
    return float(log_temperature.detach().exp().clamp(0.05, 20.0))


@dataclass(frozen=True)
class Bin:
    """The pictures of one range of confidence: how many, how sure the network was of them, how often it was right."""

    images: int
    confidence: float
    accuracy: float


def reliability(probabilities: torch.Tensor, labels: torch.Tensor) -> list[Bin]:
    """Return 15 equal bins of confidence, lowest first; an empty one has confidence and accuracy 0.

    Args:
        probabilities: float (n, classes), rows sum to 1.
        labels: int64 (n,).
    """
    confidence, predicted = probabilities.max(dim=1)
    correct = (predicted == labels).to(confidence.dtype)
    bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
    sums = torch.zeros(3, _BINS, dtype=confidence.dtype)
    for row, values in zip(sums, (torch.ones_like(confidence), confidence, correct), strict=True):
        row.index_add_(0, bins, values)
    images = sums[0]
    means = (sums[1:] / images.clamp(min=1)).tolist()
    return [Bin(int(count), *both) for count, *both in zip(images.tolist(), *means, strict=True)]


def expected_calibration_error(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal bins, 0 (honest) to 1.

    Args:
        probabilities: float (n, classes), rows sum to 1.
        labels: int64 (n,).

    Source: arXiv:1706.04599, section 2, equation 3.
    """
    bins = reliability(probabilities, labels)
    return sum(found.images * abs(found.confidence - found.accuracy) for found in bins) / len(labels)
