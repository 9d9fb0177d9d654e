import pytest
import torch

from training.calibration import expected_calibration_error, fit_temperature, reliability


def labels_drawn_from(logits: torch.Tensor) -> torch.Tensor:
    """Return labels for which softmax(logits) is the truth."""
    generator = torch.Generator().manual_seed(1)
    return torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)


def random_logits(count: int) -> torch.Tensor:
    return 2 * torch.randn((count, 10), generator=torch.Generator().manual_seed(0))


def two_way(confidence: float, *, count: int) -> torch.Tensor:
    """Return `count` rows of probabilities that name label 0 with this confidence."""
    return torch.tensor([[confidence, 1 - confidence]]).repeat(count, 1)


def right(number: int, *, of: int) -> torch.Tensor:
    """Return labels of which this many are 0."""
    return (torch.arange(of) >= number).long()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_known_temperature_is_recovered(temperature: float) -> None:
    """Honest logits that were multiplied by a number get that number for a temperature."""
    honest = random_logits(20_000)
    labels = labels_drawn_from(honest)

    assert fit_temperature(honest * temperature, labels) == pytest.approx(temperature, rel=0.03)


def test_temperature_lowers_the_calibration_error() -> None:
    """Overconfident probabilities are honest after the fit."""
    honest = random_logits(20_000)
    labels = labels_drawn_from(honest)
    logits = honest * 3

    temperature = fit_temperature(logits, labels)

    before = expected_calibration_error(logits.softmax(dim=1), labels)
    after = expected_calibration_error((logits / temperature).softmax(dim=1), labels)
    assert before > 0.1
    assert after < 0.02


def test_temperature_stays_usable() -> None:
    """A network that is right, or wrong, about everything gets the nearest sensible temperature."""
    logits = torch.eye(10).repeat(10, 1)
    labels = torch.arange(10).repeat(10)

    assert fit_temperature(logits, labels) == pytest.approx(0.05)
    assert fit_temperature(logits, labels.roll(1)) == pytest.approx(20.0)


def test_honest_probabilities_have_no_calibration_error() -> None:
    """Labels drawn from the probabilities themselves leave only the sampling noise."""
    logits = random_logits(20_000)

    assert expected_calibration_error(logits.softmax(dim=1), labels_drawn_from(logits)) < 0.015


@pytest.mark.parametrize(
    ("confidence", "correct", "gap"), [(0.9, 70, 0.2), (0.6, 90, 0.3), (0.8, 80, 0.0), (1.0, 25, 0.75)]
)
def test_constant_confidence_errs_by_the_gap(confidence: float, correct: int, gap: float) -> None:
    """Who is always as sure and is right at another rate has the difference for an error."""
    error = expected_calibration_error(two_way(confidence, count=100), right(correct, of=100))

    assert error == pytest.approx(gap, abs=1e-5)


def test_gaps_are_weighted_by_their_pictures() -> None:
    """Over- and underconfidence in different bins add up instead of cancelling out."""
    probabilities = torch.cat([two_way(0.9, count=300), two_way(0.6, count=100)])
    labels = torch.cat([right(210, of=300), right(80, of=100)])

    error = expected_calibration_error(probabilities, labels)

    assert error == pytest.approx(0.75 * 0.2 + 0.25 * 0.2, abs=1e-5)


def test_bins_tell_how_sure_and_how_right() -> None:
    """Each bin has its pictures, their mean confidence and their accuracy; nobody is 40 % sure of one of two."""
    bins = reliability(torch.cat([two_way(0.9, count=10), two_way(0.62, count=10)]), right(15, of=20))

    filled = {index: found for index, found in enumerate(bins) if found.images}
    assert filled.keys() == {9, 13}
    assert (filled[13].images, filled[9].images) == (10, 10)
    assert filled[13].confidence == pytest.approx(0.9)
    assert (filled[13].accuracy, filled[9].accuracy) == pytest.approx((1.0, 0.5))
