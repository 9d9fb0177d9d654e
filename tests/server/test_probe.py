import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.probe import probed_address
from server.settings import ServerSettings
from tests.certificates import Authority, replace
from tests.server.process import ROOT, running_server


def _probe(port: str, *service: str, **settings: Path) -> "subprocess.CompletedProcess[str]":
    environment = {f"CIFARSERVE_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "server.probe", *service],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "CIFARSERVE_PORT": port, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_probe_says_what_the_server_says(repository: Path) -> None:
    """SERVING is status 0, for the server and for a model; a model that it does not know is 1 and one line."""
    async with running_server("--repository", repository, "--default-model", "quick") as server:
        port = server.address.rsplit(":", 1)[1]
        whole, model, unknown = _probe(port), _probe(port, "model/quick"), _probe(port, "model/none")

    assert (whole.returncode, whole.stdout) == (0, "SERVING\n")
    assert (model.returncode, model.stdout) == (0, "SERVING\n")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("cifarserve-probe: NOT_FOUND")


@pytest.mark.parametrize("mutual", [False, True])
async def test_probe_speaks_the_servers_tls(repository: Path, tmp_path: Path, mutual: bool) -> None:  # noqa: FBT001
    """With TLS the probe trusts the server's certificate alone, and shows it where clients must show one."""
    authority = Authority()
    certificate, key = authority.sign("cats.example").write(tmp_path, "server")
    files = {"tls_certificate": certificate, "tls_key": key}
    if mutual:
        files["tls_client_ca"] = replace(tmp_path / "ca.crt", authority.pem)
    flags = [flag for name, path in files.items() for flag in (f"--{name.replace('_', '-')}", path)]
    async with running_server("--repository", repository, "--default-model", "quick", *flags) as server:
        port = server.address.rsplit(":", 1)[1]
        secure, plain = _probe(port, **files), _probe(port)

    assert (secure.returncode, secure.stdout, secure.stderr) == (0, "SERVING\n", "")
    assert plain.stderr.startswith("cifarserve-probe: UNAVAILABLE")


def test_nobody_there_is_one_line() -> None:
    """A server that is not there is status 1, and no stack trace."""
    result = _probe("1")

    assert result.returncode == 1
    assert result.stderr.startswith("cifarserve-probe: UNAVAILABLE")
    assert "Traceback" not in result.stderr


def test_a_bad_setting_is_one_line() -> None:
    """An environment that the server refuses is refused by its probe too."""
    result = _probe("many")

    assert result.returncode == 1
    assert result.stderr.count("\n") == 1


def test_address_to_listen_on_becomes_one_to_connect_to() -> None:
    """In a container the server listens on every address; it is asked on its own."""
    assert probed_address(ServerSettings(_cli_parse_args=[], host="0.0.0.0", port=1234)) == "localhost:1234"  # noqa: S104
    assert probed_address(ServerSettings(_cli_parse_args=[], host="10.0.0.1")) == "10.0.0.1:50051"
