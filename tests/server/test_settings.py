import click
import pytest
from pydantic import ValidationError

from client.__main__ import main
from server.settings import ServerSettings


def test_flag_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag wins over the environment, the environment over the default."""
    default = ServerSettings(_cli_parse_args=[])
    monkeypatch.setenv("CIFARSERVE_MAX_BATCH_SIZE", "7")
    environment = ServerSettings(_cli_parse_args=[])
    flag = ServerSettings(_cli_parse_args=["--max-batch-size", "9"])

    assert (default.max_batch_size, environment.max_batch_size, flag.max_batch_size) == (64, 7, 9)


def test_every_knob_has_a_help_text() -> None:
    """No knob is left unexplained."""
    assert all(field.description for field in ServerSettings.model_fields.values())


def test_request_must_fit_the_queue() -> None:
    """A request that the queue could never hold is a mistake in the settings."""
    with pytest.raises(ValidationError, match="such a request could never be accepted"):
        ServerSettings(_cli_parse_args=["--max-queue-items", "10"])


def test_message_must_fit_the_queue() -> None:
    """A message that the queue could never hold is a mistake in the settings."""
    with pytest.raises(ValidationError, match="such a message could never be accepted"):
        ServerSettings(_cli_parse_args=["--max-message-bytes", "2000000", "--max-queue-mib", "1"])


def test_listens_on_loopback_unless_told_otherwise() -> None:
    """Nothing is reachable from other machines by default."""
    assert ServerSettings(_cli_parse_args=[]).host == "127.0.0.1"


def test_client_and_server_share_no_environment_variable() -> None:
    """In one container both run: the client as the server's health check."""
    commands: list[click.Command] = [main]
    names: set[str] = set()
    while commands:
        command = commands.pop()
        names |= {str(parameter.envvar) for parameter in command.params if parameter.envvar}
        commands += command.commands.values() if isinstance(command, click.Group) else []

    assert "CIFARSERVE_TOKEN_FILE" in names
    assert not names & {f"CIFARSERVE_{field.upper()}" for field in ServerSettings.model_fields}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tls-certificate", "a.crt"], "expected both or neither of --tls-certificate and --tls-key"),
        (["--tls-key", "a.key"], "expected both or neither of --tls-certificate and --tls-key"),
        (["--tls-client-ca", "ca.crt"], "expected --tls-certificate and --tls-key with it"),
    ],
)
def test_half_of_what_tls_needs_is_a_mistake(flags: list[str], message: str) -> None:
    """A server that was meant to be encrypted must not start without."""
    with pytest.raises(ValidationError, match=message):
        ServerSettings(_cli_parse_args=flags)


def test_messages_are_capped_at_eight_mebibytes() -> None:
    """What a stranger can make the server hold is bounded without a flag."""
    assert ServerSettings(_cli_parse_args=[]).max_message_bytes == 8 * 2**20
