import shutil
import subprocess
import sys

import pytest
import torch

from benchmarks import gpu
from benchmarks.running import ENVIRONMENT, ROOT


def test_without_a_gpu_it_says_so() -> None:
    """Where there is no GPU the benchmark ends with one line and a status that is not 0."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        cwd=ROOT,
        env={**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr == "the benchmark needs a GPU: torch finds no CUDA device on this machine\n"
    assert done.stdout == ""


def test_without_h2load_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the load generator is absent one line says what to install."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])

    with pytest.raises(SystemExit, match="needs h2load: apt-get install nghttp2-client"):
        gpu.main()


def test_images_are_held_against_the_graph_of_as_many() -> None:
    """The ratio is that of images per second; 0.8 of the bare graph is the aim."""
    figures = {
        f"{who}_{model}_{what}": value
        for model in gpu.MODELS
        for who, what, value in [
            ("graph", "1_ms", 0.1),
            ("graph", "64_ms", 1.0),
            ("graph", "256_ms", 2.0),
            ("server", "lone_p50_ms", 0.5),
            ("server", "64_images", 60_000.0),
            ("server", "256_images", 64_000.0),
        ]
    }

    lone, some, many = gpu.rows(figures)[:3]

    assert (lone.measured, lone.met) == (0.5, True)
    assert [row.met for row in (some, many)] == [True, False]
    assert [row.ratio for row in (lone, some, many)] == pytest.approx([5.0, 0.9375, 0.5])
