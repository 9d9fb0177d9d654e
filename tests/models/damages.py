"""Ways to damage a published version: each takes the version's folder and breaks one thing in it."""

import os
import pickle
from pathlib import Path

import torch
from pydantic import JsonValue

from models import registry
from models.labels import LABELS
from models.preprocessing import MEAN, STD
from models.verification import CARD_FILE, WEIGHTS_FILE
from tests.models.cards import edit_card, replace_weights, serialize

PAYLOAD_TRACE = "the-payload-ran"


def weights_missing(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()


def weights_truncated(folder: Path) -> None:
    os.truncate(folder / WEIGHTS_FILE, 1000)


def weights_with_a_flipped_byte(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def weights_that_are_text(folder: Path) -> None:
    replace_weights(folder, b"these are not weights")


def weights_that_run_code(folder: Path) -> None:
    """A pickle with a fitting digest; unpickled carelessly, it makes a folder in the version's folder."""
    replace_weights(folder, pickle.dumps(_Payload(folder / PAYLOAD_TRACE), protocol=2))


def weights_in_a_wrapper(folder: Path) -> None:
    replace_weights(folder, serialize({"epoch": 3, "model": registry.build("quick").state_dict()}))


def weights_without_names(folder: Path) -> None:
    replace_weights(folder, serialize({0: torch.zeros(3)}))


def weights_of_another_architecture(folder: Path) -> None:
    replace_weights(folder, serialize(registry.build("whitened").state_dict()))


def weights_not_finite(folder: Path) -> None:
    state = registry.build("quick").state_dict()
    state["0.bias"][3] = torch.nan
    replace_weights(folder, serialize(state))


def card_missing(folder: Path) -> None:
    (folder / CARD_FILE).unlink()


def card_that_is_not_json(folder: Path) -> None:
    (folder / CARD_FILE).write_text("model: quick\n")


def card_with_an_unknown_field(folder: Path) -> None:
    edit_card(folder, colour="blue")


def card_without_a_digest(folder: Path) -> None:
    edit_card(folder, digest="")


def card_with_foreign_labels(folder: Path) -> None:
    edit_card(folder, labels=list(reversed(LABELS)))


def card_with_a_foreign_mean(folder: Path) -> None:
    edit_card(folder, preprocessing=_preprocessing(size_px=32, mean=(0.5, 0.5, 0.5)))


def card_with_a_foreign_size(folder: Path) -> None:
    edit_card(folder, preprocessing=_preprocessing(size_px=64, mean=MEAN))


def card_of_an_unknown_architecture(folder: Path) -> None:
    edit_card(folder, architecture="resnet9000")


def _preprocessing(*, size_px: int, mean: tuple[float, float, float]) -> dict[str, JsonValue]:
    return {"size_px": size_px, "mean": list(mean), "std": list(STD)}


class _Payload:
    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._trace),)
