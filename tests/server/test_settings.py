import pytest
from pydantic import ValidationError

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
