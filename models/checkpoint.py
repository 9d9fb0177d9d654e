"""Writing and reading one version: `model.pt`, a plain state_dict, and `model.json`, its card.

Knows the two files, not how versions are listed (`models.repository`) or served.
"""

import contextlib
import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from models import registry
from models.card import Card
from models.durable import replace_durably, sync_folder, write_durably
from models.errors import CheckpointDamaged, Fault
from models.repository import next_version
from models.verification import CARD_FILE, WEIGHTS_FILE, read_card, read_weights


@dataclass(frozen=True)
class Checkpoint:
    """A verified version: its card, and the network in evaluation mode with the card's weights."""

    card: Card
    network: nn.Module


def save(repository: Path, *, model: str, network: nn.Module, make_card: Callable[[int, str], Card]) -> Path:
    """Publish `network` as the next version of `model` and return the new folder.

    A reader sees the whole version or nothing: the files are written to a hidden folder beside it,
    flushed to the disk, and renamed into place in one step.

    Args:
        repository: the folder of models; made when it is missing.
        model: the model's name, a folder of the repository.
        network: its state_dict is written, moved to the CPU.
        make_card: gets the version number and the SHA-256 digest of the weights, returns the card.

    Raises:
        OSError: the repository cannot be written; no half-published version is left behind.
    """
    folder = repository / model
    folder.mkdir(parents=True, exist_ok=True)
    weights = _serialize(network)
    digest = hashlib.sha256(weights).hexdigest()
    with _staging_folder(folder) as staging:
        write_durably(staging / WEIGHTS_FILE, weights)
        while True:
            version = next_version(folder)
            write_durably(staging / CARD_FILE, make_card(version, digest).model_dump_json(indent=2).encode())
            sync_folder(staging)
            try:
                staging.rename(folder / str(version))
            except OSError:
                if (folder / str(version)).exists():  # another publisher took the number first
                    continue
                raise
            sync_folder(folder)
            return folder / str(version)


def update_card(folder: Path, card: Card) -> None:
    """Put a new card in the place of a version's card, in one step; the weights stay.

    Raises:
        OSError: the folder cannot be written; the old card is still there.
    """
    replace_durably(folder / CARD_FILE, card.model_dump_json(indent=2).encode())


def load(folder: Path, *, device: torch.device) -> Checkpoint:
    """Read, verify and build the version in `folder`, with its weights on `device`.

    Raises:
        CheckpointDamaged: a file is missing, the digest differs from the card's, the weights are not
            a plain state_dict of finite numbers, or they do not fit the architecture.
        UnknownArchitecture: the card names a network that is not registered.
    """
    card = read_card(folder)
    path = folder / WEIGHTS_FILE
    state = _read_state(folder, card=card, device=device)
    network = registry.build(card.architecture)
    try:
        network.load_state_dict(state)
    except RuntimeError as exc:
        reason = " ".join(str(exc).split())[:200]
        raise CheckpointDamaged(
            f"{path}: does not fit architecture {card.architecture!r}: {reason}", fault=Fault.ARCHITECTURE
        ) from exc
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise CheckpointDamaged(f"{path}: holds weights that are not finite numbers", fault=Fault.NOT_FINITE)
    return Checkpoint(card, network.to(device).eval())


def _read_state(folder: Path, *, card: Card, device: torch.device) -> dict[str, torch.Tensor]:
    weights = read_weights(folder, card)
    path = folder / WEIGHTS_FILE
    try:
        state = torch.load(io.BytesIO(weights), map_location=device, weights_only=True)
    except Exception as exc:  # bytes that are no checkpoint make torch raise whatever it stumbles over
        raise CheckpointDamaged(f"{path}: not a plain state_dict: {type(exc).__name__}", fault=Fault.FORMAT) from exc
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise CheckpointDamaged(f"{path}: not a plain state_dict: expected tensors by name", fault=Fault.FORMAT)
    return state


def _serialize(network: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}, buffer)
    return buffer.getvalue()


@contextlib.contextmanager
def _staging_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder that no reader takes for a version; gone afterwards unless it was renamed."""
    staging = Path(tempfile.mkdtemp(prefix=".publishing-", dir=folder))
    staging.chmod(0o755)  # mkdtemp's 0700 would hide the version from a server under another user
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
