"""The README says what is true: its figures are those of the cards and of the benchmark's last run."""

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from benchmarks.readme import render, replace_table
from benchmarks.running import running_server
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_figures_are_those_of_the_last_run() -> None:
    """The table is what the benchmark's results and the shipped cards say, to the letter."""
    assert replace_table(README, render()) == README


def test_tree_names_every_folder() -> None:
    """Every top-level folder has its line in the tree."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    folders = {file.split("/")[0] for file in files if "/" in file and not file.startswith(".")}

    assert folders <= set(re.findall(r"^(\w+)/", README, re.MULTILINE))


def test_make_targets_exist() -> None:
    """Every make target that the README names is in the Makefile."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"`?make (\w+)", README)) <= targets


def test_python_snippet_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client example, as it stands, classifies a photograph of a cat."""
    [snippet] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.chelsea()).save("cat.jpg")  # type: ignore[no-untyped-call]
    with running_server("--device", "cpu") as server:
        exec(snippet.replace("127.0.0.1:50051", server.address), {})  # noqa: S102  # that is the test

    assert capsys.readouterr().out.startswith("cat ")
