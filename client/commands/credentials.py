"""The options of every command that say how it proves who it is, and the files behind them."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from client.credentials import Credentials, Tls
from client.errors import BadCredentials

TOKEN_VARIABLE = "CIFARSERVE_TOKEN"  # noqa: S105  # a name, not a token

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _file_option(name: str, text: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    variable = "CIFARSERVE_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(
        name, metavar="FILE", type=click.Path(path_type=Path), envvar=variable, show_envvar=True, help=text
    )


_OPTIONS = (
    click.option(
        "--tls/--no-tls",
        default=None,
        envvar="CIFARSERVE_TLS",
        show_envvar=True,
        help="Encrypt, and check the server's certificate. On when a file below but the token's is given.",
    ),
    _file_option("--ca-file", "PEM certificates of the authorities to trust, instead of the public ones."),
    _file_option("--certificate-file", "PEM certificate to show to a server that asks for it (mutual TLS)."),
    _file_option("--key-file", "PEM private key of that certificate, without a password."),
    click.option(
        "--tls-server-name",
        metavar="NAME",
        default="",
        envvar="CIFARSERVE_TLS_SERVER_NAME",
        show_envvar=True,
        help="Whom the server's certificate must be for, where that is not the host of --target.",
    ),
    _file_option("--token-file", f"File that holds a token and nothing else; or set {TOKEN_VARIABLE} to the token."),
)


_PARAMETERS = ("tls", "ca_file", "certificate_file", "key_file", "tls_server_name", "token_file")


def credential_options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the options; it is called with their `credentials` in their place.

    Raises:
        BadCredentials: one of the files cannot be read, or something is missing.
    """

    @functools.wraps(command)
    def with_credentials(*args: object, **options: Any) -> _R:  # noqa: ANN401  # click's, of every type
        others = {name: value for name, value in options.items() if name not in _PARAMETERS}
        return command(*args, credentials=read_credentials(**options), **others)

    wrapped: Callable[..., _R] = with_credentials
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def read_credentials(
    *,
    tls: bool | None,
    ca_file: Path | None,
    certificate_file: Path | None,
    key_file: Path | None,
    tls_server_name: str,
    token_file: Path | None,
    **_others: object,
) -> Credentials:
    """Return what the options say; others than those of credentials are passed over.

    Raises:
        BadCredentials: one of the files cannot be read.
        click.UsageError: a certificate without a key, or a key without a certificate.
    """
    if (certificate_file is None) != (key_file is None):
        raise click.UsageError("expected both or neither of --certificate-file and --key-file")
    wants_tls = bool(ca_file or certificate_file) if tls is None else tls
    return Credentials(
        tls=Tls(
            ca=_read_pem(ca_file),
            certificate=_read_pem(certificate_file),
            key=_read_pem(key_file),
            server_name=tls_server_name,
        )
        if wants_tls
        else None,
        token=read_token(token_file),
    )


def is_readable_by_others(target: str, credentials: Credentials) -> bool:
    """Return whether a token would travel over a network without TLS."""
    host = target.removeprefix("dns:///").rpartition(":")[0].strip("[]")
    is_local = host in {"localhost", "::1"} or host.startswith("127.") or target.startswith("unix:")
    return bool(credentials.token) and credentials.tls is None and not is_local


def read_token(path: Path | None) -> str:
    """Return the token in a file, or else in the environment; empty: there is none.

    Raises:
        BadCredentials: the file cannot be read, or holds more or less than a token.
    """
    text = os.environ.get(TOKEN_VARIABLE, "") if path is None else _read(path).decode(errors="replace")
    token = text.strip()
    if (path and not token) or not token.isascii() or len(token.split()) > 1:
        raise BadCredentials(f"{path or TOKEN_VARIABLE}: expected one token and nothing else")
    return token


def _read_pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    content = _read(path)
    if b"-----BEGIN " not in content:
        raise BadCredentials(f"{path}: expected a PEM file, got {len(content)} bytes of something else")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BadCredentials(f"{path}: {exc.strerror}") from exc
