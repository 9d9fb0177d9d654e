"""Reading a version's two files and checking that they belong together. Needs no torch: it is quick."""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from models.card import Card, Preprocessing
from models.errors import CheckpointDamaged, Fault
from models.labels import LABELS

WEIGHTS_FILE = "model.pt"
CARD_FILE = "model.json"


def read_card(folder: Path) -> Card:
    """Return the card of the version in `folder`.

    Raises:
        CheckpointDamaged: the card is missing, is not valid, is another version's, or describes other
            preprocessing.
    """
    path = folder / CARD_FILE
    try:
        card = Card.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise CheckpointDamaged(f"{path}: {exc.strerror or exc}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CheckpointDamaged(f"{path}: {where}: {first['msg']}", fault=Fault.CARD) from exc
    if (card.model, str(card.version)) != (folder.parent.name, folder.name):
        raise CheckpointDamaged(f"{path}: is the card of model {card.model!r} version {card.version}", fault=Fault.CARD)
    if (card.preprocessing, card.labels) != (Preprocessing(), LABELS):
        raise CheckpointDamaged(f"{path}: its preprocessing or labels are not those of this release", fault=Fault.CARD)
    return card


def read_weights(folder: Path, card: Card) -> bytes:
    """Return the content of `model.pt`, which is what the card says.

    Load these bytes rather than the file, which could change after it was checked.

    Raises:
        CheckpointDamaged: the file is missing, cannot be read, or has another SHA-256.
    """
    path = folder / WEIGHTS_FILE
    try:
        weights = path.read_bytes()
    except OSError as exc:
        raise CheckpointDamaged(f"{path}: {exc.strerror or exc}") from exc
    found = hashlib.sha256(weights).hexdigest()
    if found != card.digest:
        raise _wrong_digest(path, card, found, size_bytes=len(weights))
    return weights


def check_digest(folder: Path, card: Card) -> None:
    """Check that `model.pt` is what the card says, without holding it in memory.

    Raises:
        CheckpointDamaged: the file is missing, cannot be read, or has another SHA-256.
    """
    path = folder / WEIGHTS_FILE
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as exc:
        raise CheckpointDamaged(f"{path}: {exc.strerror or exc}") from exc
    if found != card.digest:
        raise _wrong_digest(path, card, found, size_bytes=size)


def _wrong_digest(path: Path, card: Card, found: str, *, size_bytes: int) -> CheckpointDamaged:
    return CheckpointDamaged(
        f"{path}: expected SHA-256 {card.digest[:12]}..., got {found[:12]}... ({size_bytes} bytes)", fault=Fault.DIGEST
    )
