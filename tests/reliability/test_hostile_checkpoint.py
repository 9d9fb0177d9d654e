"""A checkpoint cannot run code, whatever its card says."""

import hashlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path

import torch

from tests.reliability.conftest import Figure, Scale
from tests.server.process import run_to_its_end


class _Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._path),)


def _plain_pickle(payload: _Payload) -> bytes:
    return pickle.dumps(payload)


def _inside_a_checkpoint(payload: _Payload) -> bytes:
    buffer = io.BytesIO()
    torch.save({"0.weight": torch.zeros(1), "payload": payload}, buffer)
    return buffer.getvalue()


def _replace_weights(repository: Path, weights: bytes) -> None:
    """Put `weights` in the place of the model's, and their digest into its card."""
    [folder] = (repository / "quick").iterdir()
    (folder / "model.pt").write_bytes(weights)
    card = json.loads((folder / "model.json").read_text())
    card["digest"] = hashlib.sha256(weights).hexdigest()
    (folder / "model.json").write_text(json.dumps(card))


def test_pickle_payload_is_refused(quick_repository: Path, tmp_path: Path, scale: Scale, figure: Figure) -> None:
    """T16. A model.pt that would run code is refused in one line, also when the card's hash matches; nothing ran."""
    proof = tmp_path / "it-ran"
    for make in scale.choose(short=[_inside_a_checkpoint], full=[_inside_a_checkpoint, _plain_pickle]):
        repository = tmp_path / make.__name__
        shutil.copytree(quick_repository, repository)
        _replace_weights(repository, make(_Payload(proof)))
        result = run_to_its_end("--repository", repository)

        assert result.status == 1
        assert "not a plain state_dict" in result.last_line
        assert not proof.exists()
    figure(
        promise="a checkpoint cannot run code",
        tested="pickles in `model.pt`, bare and inside a state_dict, whose hash the card confirms",
        value="refused in one line, exit status 1, nothing ran",
    )
