"""KServe's own client, unchanged, in its own environment and process."""

from pathlib import Path

import pytest

from benchmarks.running import RunningServer
from tests.interop.conftest import Pictures, same
from tests.interop.environments import python_environment, run_json


@pytest.mark.timeout(600)  # the environment is made here
def test_kserve_client(server: RunningServer, pictures: Pictures) -> None:
    """Health, raw and typed tensors, pictures as files, and a failure with its status."""
    script = Path(__file__).with_name("kserve_client.py")
    outcome = run_json(python_environment("kserve"), script, server.address, pictures.folder)

    assert (outcome["live"], outcome["ready"]) == (True, True)
    assert outcome["models"] == [True, True, False]
    assert outcome["id"] == "mine"
    for way in ("raw_uint8", "raw_fp32", "raw_bytes", "typed_uint8", "typed_fp32", "typed_bytes"):
        assert same(outcome[way], pictures.probabilities), way
    assert outcome["failure"] == ["NOT_FOUND", "unknown model 'nobody': expected one of other, quick"]
