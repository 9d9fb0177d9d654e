"""Making probabilities mean what they say: one temperature, and the error that is left."""

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


def expected_calibration_error(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal bins, 0 (honest) to 1.

    Args:
        probabilities: float (n, classes), rows sum to 1.
        labels: int64 (n,).

    Source: arXiv:1706.04599, section 2, equation 3.
    """
    confidence, predicted = probabilities.max(dim=1)
    correct = (predicted == labels).to(confidence.dtype)
    bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
    gaps = torch.zeros(_BINS, dtype=confidence.dtype).index_add_(0, bins, confidence - correct)
    return float(gaps.abs().sum() / len(labels))
