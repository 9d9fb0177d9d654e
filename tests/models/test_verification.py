import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import CheckpointDamaged
from models.verification import check_digest, read_card, read_weights
from tests.models import damages
from tests.models.cards import make_card, publish


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return publish(tmp_path)


def test_sound_version_is_read(version: Path) -> None:
    """The card is the published one, and the weights are the bytes that its digest names."""
    card = read_card(version)
    weights = read_weights(version, card)

    assert card == make_card(1, card.digest)
    assert hashlib.sha256(weights).hexdigest() == card.digest


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damages.card_missing, r"model\.json: No such file or directory"),
        (damages.card_that_is_not_json, r"model\.json: the file: Invalid JSON"),
        (damages.card_with_an_unknown_field, r"model\.json: colour: Extra inputs are not permitted"),
        (damages.card_without_a_digest, r"model\.json: digest: String should match pattern"),
        (damages.card_with_foreign_labels, r"model\.json: its preprocessing or labels are not those of this release"),
        (damages.card_with_a_foreign_mean, r"model\.json: its preprocessing or labels are not those of this release"),
        (damages.card_with_a_foreign_size, r"model\.json: its preprocessing or labels are not those of this release"),
    ],
)
def test_damaged_card(version: Path, damage: Callable[[Path], None], message: str) -> None:
    """A card that cannot be trusted is refused in one line that names the file and what is wrong with it."""
    damage(version)

    with pytest.raises(CheckpointDamaged, match=message) as caught:
        read_card(version)
    assert str(caught.value).startswith(f"{version}/")
    assert "\n" not in str(caught.value)


def test_card_of_another_version(version: Path) -> None:
    """A version that was copied under another number is refused: its answers would name the wrong one."""
    copy = version.parent / "7"
    shutil.copytree(version, copy)

    with pytest.raises(CheckpointDamaged, match=r"7/model\.json: is the card of model 'quick' version 1"):
        read_card(copy)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damages.weights_missing, r"model\.pt: No such file or directory"),
        (damages.weights_truncated, r"model\.pt: expected SHA-256 \w{12}\.\.\., got \w{12}\.\.\. \(1000 bytes\)"),
        (damages.weights_with_a_flipped_byte, r"model\.pt: expected SHA-256 \w{12}\.\.\., got \w{12}\.\.\."),
    ],
)
def test_damaged_weights(version: Path, damage: Callable[[Path], None], message: str) -> None:
    """Weights that are not what the card says are refused before anything looks into them."""
    damage(version)

    for read in (read_weights, check_digest):
        with pytest.raises(CheckpointDamaged, match=message):
            read(version, read_card(version))


def test_sound_weights_have_the_digest(version: Path) -> None:
    """Weights that are what the card says pass."""
    check_digest(version, read_card(version))


def test_weights_that_are_a_folder(version: Path) -> None:
    """Something else in the place of the weights is reported like a missing file."""
    (version / "model.pt").unlink()
    (version / "model.pt").mkdir()

    for read in (read_weights, check_digest):
        with pytest.raises(CheckpointDamaged, match="Is a directory"):
            read(version, read_card(version))
