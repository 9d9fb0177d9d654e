"""The saved states of one run: written as a whole or not at all, so that a killed run goes on where it was.

Knows files, not training: what a state holds is the learner's business.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.durable import WRITING_PREFIX, replace_durably
from training.errors import StateMismatch

_NAME = re.compile(r"epoch-(\d{4,})(?:-step-(\d{5,}))?\.pt")
_BEST = "best.pt"


class RunFolder:
    """The newest `keep` states of a run, and the best on validation, in one folder."""

    def __init__(self, path: Path, *, keep: int) -> None:
        """Make the folder. Raises OSError when that cannot be done."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._keep = keep

    def save(self, state: Mapping[str, Any], *, epoch: int, step: int = 0, best: bool = False) -> Path:
        """Write `state` as the one after `epoch` whole epochs and `step` steps of the next; drop those too old.

        Raises:
            OSError: the folder cannot be written, or its disk is full; the states of before are still there.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        path = self.path / (f"epoch-{epoch:04}" + (f"-step-{step:05}" if step else "") + ".pt")
        replace_durably(path, buffer.getbuffer())
        if best:
            replace_durably(self.path / _BEST, buffer.getbuffer())
        for old in self._states()[: -self._keep]:
            old.unlink()
        return path

    def load(self, *, device: torch.device) -> dict[str, Any]:
        """Return the newest state, its tensors on `device`.

        Raises:
            StateMismatch: there is none, or it cannot be read.
        """
        states = self._states()
        if not states:
            raise StateMismatch(f"--resume: no saved state in {self.path}")
        try:
            state: dict[str, Any] = torch.load(states[-1], map_location=device, weights_only=True)
        except Exception as exc:  # bytes that are no state make torch raise whatever it stumbles over
            raise StateMismatch(f"{states[-1]}: not a saved state: {type(exc).__name__}") from exc
        return state

    def best(self, *, device: torch.device) -> dict[str, Any]:
        """Return the state that was best on validation."""
        state: dict[str, Any] = torch.load(self.path / _BEST, map_location=device, weights_only=True)
        return state

    def newest(self) -> tuple[int, int] | None:
        """Return how many epochs, and steps of the next, the newest state is after; None without one."""
        states = self._states()
        return _position(states[-1]) if states else None

    def clear(self) -> None:
        """Remove every state."""
        for path in [*self._states(), self.path / _BEST, *self.path.glob(WRITING_PREFIX + "*")]:
            path.unlink(missing_ok=True)

    def _states(self) -> list[Path]:
        return sorted((path for path in self.path.iterdir() if _NAME.fullmatch(path.name)), key=_position)


def _position(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    assert match is not None  # noqa: S101 - only names that match get here
    return int(match[1]), int(match[2] or 0)
