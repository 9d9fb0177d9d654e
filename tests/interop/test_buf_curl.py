"""A client in Go that knows no contract beforehand: buf's, which the lock of this project holds, by reflection."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.running import RunningServer
from tests.interop.conftest import Pictures
from tests.interop.environments import start

_NOT_FOUND = 40  # buf's exit status is eight times the code


def curl(server: RunningServer, method: str, message: dict[str, Any]) -> tuple[int, str]:
    """Call a method and return the exit status, and what was said."""
    buf = Path(sys.executable).with_name("buf")
    flags = ("--protocol", "grpc", "--http2-prior-knowledge", "--timeout", "30s", "--data", json.dumps(message))
    ended = start(buf, "curl", *flags, f"http://{server.address}/{method}")
    return ended.returncode, ended.stdout or ended.stderr


def test_both_doors_are_described(server: RunningServer, pictures: Pictures) -> None:
    """Messages go in and come out as JSON, by what the server says of itself."""
    encoded = base64.b64encode((pictures.folder / "0.png").read_bytes()).decode()
    typed, answer = curl(server, "cifarserve.v1.ClassifierService/Predict", {"images": [{"encoded": encoded}]})
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "contents": {"bytesContents": [encoded]}}
    by_tensor, tensors = curl(
        server,
        "inference.GRPCInferenceService/ModelInfer",
        {"modelName": "quick_encoded", "inputs": [tensor]},
    )

    assert (typed, by_tensor) == (0, 0)
    assert json.loads(answer)["results"][0]["predictions"][0]["label"] == pictures.best[0]
    assert json.loads(tensors)["outputs"][0]["shape"] == ["1", "10"]


def test_health_of_every_name(server: RunningServer) -> None:
    """A probe asks for the server, a service or a model."""
    for name in ("", "inference.GRPCInferenceService", "model/quick"):
        status, answer = curl(server, "grpc.health.v1.Health/Check", {"service": name})
        assert (status, json.loads(answer)) == (0, {"status": "SERVING"}), name


def test_failure_has_its_status(server: RunningServer) -> None:
    """A status is what the tool makes of it: a code, and the server's one line."""
    status, answer = curl(server, "inference.GRPCInferenceService/ModelMetadata", {"name": "nobody"})

    assert status == _NOT_FOUND
    assert json.loads(answer)["message"] == "unknown model 'nobody': expected one of other, quick"
