import pytest
from pydantic import ValidationError

from models.card import Card, PrecisionCheck
from models.labels import LABELS
from models.preprocessing import IMAGE_SIZE_PX, MEAN, STD
from tests.models.cards import make_card


def test_card_survives_json() -> None:
    """What is written to `model.json` is read back as the same card."""
    card = make_card()

    assert Card.model_validate_json(card.model_dump_json(indent=2)) == card


def test_card_describes_this_release() -> None:
    """A new card carries the labels and the preprocessing that training and serving use."""
    card = make_card()

    assert card.labels == LABELS
    assert card.preprocessing.model_dump() == {"size_px": IMAGE_SIZE_PX, "mean": MEAN, "std": STD}


def test_card_cannot_be_changed() -> None:
    """A card is a value: whoever holds it can rely on it."""
    card = make_card()

    with pytest.raises(ValidationError, match="frozen"):
        card.version = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("parameters", 0),
        ("digest", "0" * 63),
        ("digest", "0" * 65),
        ("digest", "G" * 64),
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("created", "yesterday"),
        ("colour", "blue"),
    ],
)
def test_card_refuses_nonsense(field: str, value: object) -> None:
    """A field that is unknown or out of bounds makes the whole card invalid, and the error names it."""
    content = make_card().model_dump() | {field: value}

    with pytest.raises(ValidationError, match=field):
        Card.model_validate(content)


@pytest.mark.parametrize("fraction", [-0.01, 1.01, 75.0])
def test_accuracy_is_a_fraction(fraction: float) -> None:
    """An accuracy given in percent is refused."""
    content = make_card().model_dump()
    content["test"]["accuracy"] = fraction

    with pytest.raises(ValidationError, match="accuracy"):
        Card.model_validate(content)


@pytest.mark.parametrize(
    ("accuracy", "agreement", "allowed"),
    [(0.7495, 0.996, True), (0.80, 1.0, True), (0.7485, 0.996, False), (0.75, 0.994, False)],
)
def test_precision_is_allowed_that_costs_next_to_nothing(*, accuracy: float, agreement: float, allowed: bool) -> None:
    """A type may be served that loses at most 0.1 % of the accuracy, 75 % here, and changes at most 0.5 % of labels."""
    check = PrecisionCheck(accuracy=accuracy, agreement=agreement)

    card = make_card().model_copy(update={"precisions": {"bf16": check}})

    assert card.allowed_precisions() == (("fp32", "bf16") if allowed else ("fp32",))


def test_fp32_is_always_allowed() -> None:
    """A card that knows of no other precision allows the one that was measured."""
    assert make_card().allowed_precisions() == ("fp32",)
