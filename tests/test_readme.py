"""The README says what is true: its figures are those of the cards and of the benchmark's last run."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from benchmarks.running import running_server
from models.registry import names
from models.verification import read_card
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
RESULTS = json.loads((ROOT / "benchmarks/results/serving.json").read_text())


@pytest.mark.parametrize("model", names())
def test_accuracy_is_the_cards(model: str) -> None:
    """The accuracy of each shipped model is the one that its card says."""
    card = read_card(ROOT / "models/pretrained" / model / "1")

    assert re.search(rf"`{model}`[^|]*\| {card.test.accuracy:.2%} ", README.replace(" %", "%"))


@pytest.mark.parametrize("row", RESULTS["rows"], ids=lambda row: row["name"])
def test_figure_is_the_benchmarks(row: dict[str, object]) -> None:
    """Each row of the table that names a figure of the benchmark has its measured value and ratio."""
    line = next((line for line in README.splitlines() if line.startswith(f"| {row['name']} |")), "")

    assert line == f"| {row['name']} | {row['measured']:,.2f} {row['unit']}, {row['ratio']:.2f} ({row['bound']}) |"


def test_machine_is_named() -> None:
    """The table says on which machine it was measured."""
    assert RESULTS["machine"] in README


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
