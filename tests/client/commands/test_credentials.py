from pathlib import Path

import pytest

from client.commands.credentials import TOKEN_VARIABLE, is_readable_by_others, read_token
from client.credentials import Credentials, Tls
from client.errors import BadCredentials
from tests.client import commandline
from tests.client.fake_server import FakeServer

TOKEN = "5" * 32


def test_token_is_read_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line break at its end does not matter; the file wins."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv(TOKEN_VARIABLE, "e" * 32)

    assert read_token(file) == TOKEN
    assert read_token(None) == "e" * 32
    monkeypatch.delenv(TOKEN_VARIABLE)
    assert not read_token(None)


@pytest.mark.parametrize("content", [b"", b"\n", b"infer shop 555", "ä".encode(), b"\xff"])
def test_file_that_is_no_token_is_refused(content: bytes, tmp_path: Path) -> None:
    """Such as the server's own list of them."""
    file = tmp_path / "token"
    file.write_bytes(content)

    with pytest.raises(BadCredentials, match="token: expected one token and nothing else"):
        read_token(file)


@pytest.mark.parametrize(
    ("target", "readable"),
    [
        ("127.0.0.1:50051", False),
        ("localhost:50051", False),
        ("[::1]:50051", False),
        ("unix:/run/cifarserve.sock", False),
        ("dns:///serving.example:50051", True),
        ("10.0.0.1:50051", True),
    ],
)
def test_token_on_a_network_without_tls_can_be_read(target: str, readable: bool) -> None:  # noqa: FBT001
    """On this machine it cannot, with TLS neither, and without a token there is nothing to read."""
    assert is_readable_by_others(target, Credentials(token=TOKEN)) is readable
    assert not is_readable_by_others(target, Credentials(Tls(), TOKEN))
    assert not is_readable_by_others(target, Credentials())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ca-file", "no-such.pem"), "no-such.pem: No such file or directory"),
        (("--ca-file", "README.md"), "README.md: expected a PEM file"),
        (("--certificate-file", "README.md"), "expected both or neither of --certificate-file and --key-file"),
        (("--token-file", "README.md"), "README.md: expected one token and nothing else"),
    ],
)
async def test_bad_credentials_are_an_error_of_the_command_line(
    server: FakeServer, options: tuple[str, ...], message: str
) -> None:
    """Status 2, and one line that says what was expected."""
    finished = await commandline.run(*options, "health", target=server.target)

    assert finished.status == 2
    assert message in finished.stderr
