"""docs/protocol.md says what is true: its snippets run as they stand, and its tables are complete."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from PIL import Image
from skimage import data

from benchmarks.running import RunningServer
from cifarserve.inference import open_inference_pb2
from cifarserve.v1 import classifier_pb2
from server.settings import ServerSettings
from server.statuses import STATUS
from tests.conftest import ROOT
from tests.interop.environments import python_environment, start

PAGE = (ROOT / "docs" / "protocol.md").read_text()
SNIPPETS = re.findall(r"^```python(?: (\w+))?\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.timeout(600)  # the environments may have to be made
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, [r"^\['\w+ \d\.\d\d', '\w+", r"^quick 2 \d+\.\d ms$"]),
        (1, [r"'cifarserve.v1.ClassifierService'.*'inference.GRPCInferenceService'", "'name': 'cifarserve'"]),
        (2, [r"\[\[\d\.", r"b'\d\.\d{6}:\d:\w+'"]),
        (3, [r"\[\[\d\."]),
    ],
)
def test_snippet_runs(server: RunningServer, tmp_path: Path, number: int, expected: Sequence[str]) -> None:
    """The snippet, as it stands but for the port, prints what it is there for."""
    environment, snippet = SNIPPETS[number]
    python = python_environment(environment) if environment else Path(sys.executable)
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.jpg")  # type: ignore[no-untyped-call]
    script = tmp_path / "snippet.py"
    script.write_text(
        snippet.replace("127.0.0.1:50051", server.address).replace('"cat.jpg"', repr(str(tmp_path / "cat.jpg")))
    )
    ended = start(python, script, environment={} if environment else {"PYTHONPATH": str(ROOT / "proto")})

    assert ended.returncode == 0, ended.stderr
    for pattern in expected:
        assert re.search(pattern, ended.stdout, re.MULTILINE), ended.stdout


def test_every_snippet_is_run() -> None:
    """A snippet that is added to the page has to be added here."""
    assert len(SNIPPETS) == PAGE.count("```python") == 4


def test_every_status_is_explained() -> None:
    """Every status that the server's errors become has its line."""
    explained = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE))

    assert {code.name for code in STATUS.values()} <= explained


@pytest.mark.parametrize(
    "service",
    [
        classifier_pb2.DESCRIPTOR.services_by_name["ClassifierService"],
        open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
    ],
    ids=lambda service: service.name,
)
def test_every_method_is_named(service: ServiceDescriptor) -> None:
    """Whoever looks for an RPC finds a word about it."""
    methods = {method.name for method in service.methods}
    assert {name for name in methods if f"`{name}`" not in PAGE} == set()


def test_limits_are_the_defaults() -> None:
    """The figures on the page are those of the settings."""
    settings = ServerSettings()

    assert f"1 to {settings.max_images_per_request:,} pictures" in PAGE
    assert f"at most {settings.max_message_bytes / 2**20:.0f} MiB" in PAGE
    assert f"`{settings.host}:{settings.port}`" in PAGE
