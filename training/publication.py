"""From a trained network to a version in a repository, with the card that tells how it came to be."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torchvision
from pydantic import JsonValue
from torch import nn

from models import checkpoint
from models.card import Card, Training
from models.verification import read_card
from training.assessment import Assessment
from training.device import hardware_name

if TYPE_CHECKING:
    from training.loop import Run


@dataclass(frozen=True)
class Published:
    """A new version: its folder and its card."""

    folder: Path
    card: Card


def check_writable(repository: Path, model: str) -> None:
    """Make the repository folder, and see that a version of `model` can be put into it.

    Raises:
        OSError: it cannot be made or written to, or the folder of the model, where there is one, cannot.
    """
    repository.mkdir(parents=True, exist_ok=True)
    folder = repository / model
    for path in [repository] if not folder.exists() else [repository, folder]:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable", str(path))


def publish(run: Run, assessment: Assessment, *, seconds: float) -> Published:
    """Write the run's network as the next version of its model.

    Raises:
        OSError: the repository cannot be written; nothing half-written is left in it.
    """
    settings = {
        **run.settings(),
        "device": str(run.device),
        "threads": torch.get_num_threads(),
        "processes": run.world.size,
    }
    return publish_network(
        run.network,
        repository=run.config.repository,
        model=run.config.model_name(),
        architecture=run.config.architecture,
        assessment=assessment,
        training=describe_training(
            settings,
            seconds=seconds,
            hardware=hardware_name(run.device),
            data_digest=run.data.digest,
            revision=run.code_revision,
        ),
    )


def publish_network(
    network: nn.Module, *, repository: Path, model: str, architecture: str, assessment: Assessment, training: Training
) -> Published:
    """Write a network as the next version of a model, with the card that these parts make.

    Raises:
        OSError: the repository cannot be written; nothing half-written is left in it.
    """

    def make_card(version: int, digest: str) -> Card:
        return Card(
            model=model,
            version=version,
            architecture=architecture,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            digest=digest,
            created=datetime.now(UTC).replace(microsecond=0),
            **assessment.for_card(),
            training=training,
        )

    try:
        folder = checkpoint.save(repository, model=model, network=network, make_card=make_card)
    except OSError as exc:  # a write to a full disk does not say which file it was for
        raise OSError(exc.errno, exc.strerror, exc.filename or str(repository / model)) from exc
    return Published(folder, read_card(folder))


def describe_training(
    settings: dict[str, JsonValue], *, seconds: float, hardware: str, data_digest: str, revision: str
) -> Training:
    """Return what a card says of how its weights came to be, this process's command and libraries included."""
    return Training(
        command=shlex.join(["cifarserve-train", *sys.argv[1:]]),
        config=settings,
        seconds=round(seconds, 1),
        hardware=hardware,
        data_digest=data_digest,
        code_revision=revision,
        libraries={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    )


def code_revision() -> str:
    """Return the commit of this checkout, `+` behind it where files differ, or `unknown` outside of one."""
    here = Path(__file__).parent
    try:
        commit = _git("rev-parse", "HEAD", folder=here)
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no", folder=here) else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str, folder: Path) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()
