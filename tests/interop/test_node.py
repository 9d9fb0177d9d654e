"""The example in docs/clients/node, as it stands, with the packages that its lock names."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.running import RunningServer
from tests.conftest import ROOT
from tests.interop.conftest import Pictures
from tests.interop.environments import node_packages, start

EXAMPLE = ROOT / "docs" / "clients" / "node"

pytestmark = pytest.mark.timeout(600)  # the packages are fetched by the first test


@pytest.fixture(scope="module")
def node() -> Path:
    """Where the example's packages are; skips without Node.js."""
    return node_packages(EXAMPLE)


def test_example_classifies_files(server: RunningServer, pictures: Pictures, node: Path) -> None:
    """Each file has its line, with the label that our own client would print, and the last tells who answered."""
    files = [str(pictures.folder / f"{number}.png") for number in range(len(pictures.best))]
    ended = start(
        "node", EXAMPLE / "classify.js", "--address", server.address, *files, environment={"NODE_PATH": str(node)}
    )

    assert ended.returncode == 0, ended.stderr
    *lines, last = ended.stdout.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == pictures.best
    assert last.startswith("by quick 2, ")


def test_example_tells_which_file_is_bad(server: RunningServer, pictures: Pictures, node: Path, tmp_path: Path) -> None:
    """One bad file among others has its reason, the others their labels; the status says that one failed."""
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    good = shutil.copy(pictures.folder / "0.png", tmp_path / "good.png")
    ended = start(
        "node", EXAMPLE / "classify.js", "--address", server.address, bad, good, environment={"NODE_PATH": str(node)}
    )

    assert ended.returncode == 1
    assert f"{bad}: expected a JPEG or PNG file, got 10 bytes of something else" in ended.stdout
    assert f"{good}: {pictures.best[0]} " in ended.stdout


def test_example_says_what_failed(server: RunningServer, node: Path, tmp_path: Path) -> None:
    """A request that fails as a whole ends with the name of its status and the server's text."""
    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    flags = ("--address", server.address, "--model", "nobody")
    ended = start("node", EXAMPLE / "classify.js", *flags, tmp_path / "black.png", environment={"NODE_PATH": str(node)})

    assert ended.returncode == 2
    assert ended.stderr.strip() == "NOT_FOUND: unknown model 'nobody': expected one of other, quick"
