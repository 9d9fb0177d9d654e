"""Valid cards and published versions, for tests that then break one thing."""

import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import nn

from models import checkpoint, registry
from models.card import Card, Metrics, Training
from models.labels import LABELS
from models.verification import CARD_FILE, WEIGHTS_FILE


def make_metrics() -> Metrics:
    """Return the metrics of a middling network."""
    return Metrics(
        images=100,
        accuracy=0.75,
        accuracy_per_label=dict.fromkeys(LABELS, 0.75),
        ece=0.02,
        ece_uncalibrated=0.05,
    )


def make_card(
    version: int = 1, digest: str = "0" * 64, *, model: str = "quick", architecture: str = "quick", parameters: int = 1
) -> Card:
    """Return a valid card."""
    return Card(
        model=model,
        version=version,
        architecture=architecture,
        parameters=parameters,
        digest=digest,
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        temperature=1.25,
        validation=make_metrics(),
        test=make_metrics(),
        training=Training(
            command="cifarserve-train --architecture quick",
            config={"epochs": 1, "augmentation": {"flip": True}},
            seconds=1.5,
            hardware="a test",
            data_digest="d" * 64,
            code_revision="unknown",
            libraries={"torch": "2"},
        ),
    )


def publish(repository: Path, *, network: nn.Module | None = None, architecture: str = "quick") -> Path:
    """Publish `network`, an untrained one unless given, under its architecture's name; return the new folder."""
    return checkpoint.save(
        repository,
        model=architecture,
        network=network or registry.build(architecture),
        make_card=lambda version, digest: make_card(version, digest, model=architecture, architecture=architecture),
    )


def edit_card(folder: Path, **changes: JsonValue) -> None:
    """Overwrite top-level fields of a version's card, as a person with an editor would."""
    path = folder / CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_weights(folder: Path, weights: bytes) -> None:
    """Put other weights into a version, with the digest that fits them in its card."""
    (folder / WEIGHTS_FILE).write_bytes(weights)
    edit_card(folder, digest=hashlib.sha256(weights).hexdigest())


def serialize(content: object) -> bytes:
    """Return what `torch.save` would write to a file."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
