"""A server that cannot start says why at once, and is never half up."""

import socket
from pathlib import Path

import pytest
import torch

from tests.reliability.conftest import Figure, Scale
from tests.server.process import run_to_its_end


def test_bad_start_is_quick_and_plain(quick_repository: Path, tmp_path: Path, scale: Scale, figure: Figure) -> None:
    """T24. Port in use, bad flag, no checkpoint, absent GPU: a status that is not 0 and one line, within 3 s."""
    if not scale.full:
        pytest.skip("tests/server/test_app.py has every case; the full run times them")
    (tmp_path / "empty").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = {
            "port in use": ("--repository", quick_repository, "--port", str(taken.getsockname()[1])),
            "bad flag": ("--max-batch-size", "many"),
            "missing checkpoint": ("--repository", tmp_path / "empty"),
        }
        if not torch.cuda.is_available():
            cases["absent GPU"] = ("--repository", quick_repository, "--device", "cuda:7")
        results = {name: run_to_its_end(*flags) for name, flags in cases.items()}

    for name, result in results.items():
        assert result.status != 0, name
        assert result.last_line.startswith("cifarserve-server: "), name
        assert "Traceback" not in result.log
        assert result.seconds <= 3, name
    figure(
        promise="a bad start ends within 3 s with one line that says what to do",
        tested=", ".join(cases),
        value=", ".join(f"{name} {result.seconds:.1f} s" for name, result in results.items()),
    )
