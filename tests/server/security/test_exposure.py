from pathlib import Path

import pytest

from server.security.exposure import exposure
from server.settings import ServerSettings

ALL = "0.0.0.0"  # noqa: S104  # nothing is bound here
PEM = Path("some.pem")
TLS = {"tls_certificate": PEM, "tls_key": PEM}


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"host": "127.0.0.1"}, ""),
        ({"host": "localhost"}, ""),
        ({"host": "[::1]"}, ""),
        ({"host": ALL}, "TLS (--tls-certificate, --tls-key) and tokens (--accepted-tokens)"),
        ({"host": "[::]"}, "TLS (--tls-certificate, --tls-key) and tokens (--accepted-tokens)"),
        ({"host": "serving.example"}, "TLS (--tls-certificate, --tls-key) and tokens (--accepted-tokens)"),
        ({"host": ALL, **TLS}, "tokens (--accepted-tokens)"),
        ({"host": ALL, "accepted_tokens": PEM}, "TLS (--tls-certificate, --tls-key)"),
        ({"host": ALL, **TLS, "accepted_tokens": PEM}, ""),
        ({"host": ALL, **TLS, "tls_client_ca": PEM}, ""),
    ],
)
def test_what_is_missing_beyond_this_machine_is_named(settings: dict[str, object], missing: str) -> None:
    """A server that others can reach wants TLS, and tokens or clients' certificates."""
    assert exposure(ServerSettings.model_validate(settings)) == missing
