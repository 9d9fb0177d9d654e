import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.server.process import running_server

CONFIG = ROOT / "deploy/balancer/haproxy.cfg"
_TIMEOUT_SECONDS = 30


def _ask(address: str, request: bytes, expected: bytes) -> bytes:
    """Send `request`; return what came until `expected` was in it."""
    host, port = address.rsplit(":", 1)
    answer = b""
    with socket.create_connection((host, int(port)), timeout=_TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        while expected not in answer:
            received = connection.recv(4096)
            assert received, f"the server left after {answer!r}"
            answer += received
    return answer


async def test_health_check_is_understood_by_a_server(repository: Path) -> None:
    """The bytes that HAProxy sends are a request of grpc.health.v1, and those that it expects say SERVING."""
    config = CONFIG.read_text()
    request = bytes.fromhex("".join(re.findall(r"tcp-check send-binary (\w+)", config)))
    [serving] = re.findall(r"tcp-check expect binary (\w+)", config)

    async with running_server("--repository", repository, "--default-model", "quick") as server:
        answer = _ask(server.address, request, bytes.fromhex(serving))

    assert b"application/grpc" in answer


def test_haproxy_accepts_the_configuration() -> None:
    """HAProxy itself finds nothing to refuse."""
    haproxy = shutil.which("haproxy")
    if haproxy is None:
        pytest.skip("haproxy is not installed")

    result = subprocess.run([haproxy, "-c", "-f", CONFIG], capture_output=True, text=True, timeout=60, check=False)

    assert result.returncode == 0, result.stderr
