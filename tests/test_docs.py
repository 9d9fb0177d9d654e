"""What the pages say is true: their blocks that are marked as executed do what they show, against a real server."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from benchmarks.running import RunningServer, running_server
from docs import reference
from tests.conftest import ROOT
from tests.snippets import EXECUTED, Block, blocks_of, commands_of

DOCS = ROOT / "docs"
PAGES = sorted(page.name for page in DOCS.glob("*.md") if EXECUTED in page.read_text())
TUTORIALS = ("quickstart.md", "serving.md", "client.md", "troubleshooting.md")

_ADDRESS, _METRICS = "127.0.0.1:50051", "http://127.0.0.1:9464/metrics"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The server that the pages talk to: default settings, and a repository that operators may change."""
    repository = tmp_path_factory.mktemp("docs") / "models"
    shutil.copytree(ROOT / "models" / "pretrained", repository)
    with running_server("--device", "cpu", "--repository", str(repository)) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder: a photograph of a cat and some pictures."""
    monkeypatch.chdir(tmp_path)
    photograph = Image.fromarray(data.chelsea())  # type: ignore[no-untyped-call]
    photograph.save("cat.jpg")
    Path("photos").mkdir()
    for name, box in (("a.png", (0, 0, 300, 300)), ("b.png", (100, 0, 400, 300)), ("c.jpg", (150, 0, 450, 300))):
        photograph.crop(box).save(Path("photos", name))
    return tmp_path


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_blocks_do_what_they_show(page: str, server: RunningServer, folder: Path) -> None:
    """Every block that is marked runs, one after the other, and prints what the page says."""
    for block in blocks_of((DOCS / page).read_text()):
        if block.is_executed:
            _execute(block, server, folder)


@pytest.mark.parametrize("page", TUTORIALS)
def test_every_block_is_executed_or_says_why_not(page: str) -> None:
    """A new block cannot be forgotten."""
    marks = [block.mark for block in blocks_of((DOCS / page).read_text()) if block.language in {"python", "console"}]

    assert marks
    assert [mark for mark in marks if mark != EXECUTED and not mark.startswith("<!-- not executed: ")] == []


def test_the_reference_is_what_the_code_says() -> None:
    """A flag, a metric, a status or a command that changes, changes its page: run python -m docs.reference."""
    assert (DOCS / "reference.md").read_text() == reference.page()


def test_the_index_names_every_page() -> None:
    """Whoever looks for a page finds it in docs/README.md."""
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text()))

    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= named


def _execute(block: Block, server: RunningServer, folder: Path) -> None:
    text = block.text.replace(_ADDRESS, server.address).replace(_METRICS, server.metrics_url)
    if block.language == "python":
        exec(text, {})  # noqa: S102  # that is the test
        return
    assert block.language == "console", f"expected python or console, got {block.language}"
    for command in commands_of(text):
        printed = _type(command.line, server, folder)
        checker = doctest.OutputChecker()
        as_expected = not command.printed or checker.check_output(
            command.printed, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        )
        assert as_expected, f"$ {command.line}\nexpected:\n{command.printed}\ngot:\n{printed}"


def _type(line: str, server: RunningServer, folder: Path) -> str:
    """Return what a command printed; it must end with status 0."""
    environment = {
        **os.environ,
        "CIFARSERVE_TARGET": server.address,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    finished = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    printed = finished.stdout.decode()
    assert finished.returncode == 0, f"$ {line}\nstatus {finished.returncode}\n{printed}"
    return printed
