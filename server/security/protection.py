"""From the settings to what protects a server: its gate, its credentials, its rate limit; files are followed inside."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc

from server.metrics import Metrics
from server.security.files import FollowedFiles
from server.security.gate import Gate
from server.security.rate import RateLimit
from server.security.tokens import Tokens
from server.settings import ServerSettings


@dataclass(frozen=True)
class Protection:
    """What protects a server.

    Attributes:
        gate: decides who may call what.
        limit: how often each client may ask; None: as often as it likes.
        credentials: for a TLS port; None: the port is not encrypted.
    """

    gate: Gate
    limit: RateLimit | None
    credentials: grpc.ServerCredentials | None


@contextlib.asynccontextmanager
async def protection(settings: ServerSettings, metrics: Metrics) -> AsyncIterator[Protection]:
    """Read the files that the settings name, and follow them while the block lasts.

    Raises:
        StartError: one cannot be read or makes no sense.
    """
    async with contextlib.AsyncExitStack() as stack:
        yield Protection(
            gate=Gate(await _tokens(settings, metrics, stack)),
            limit=RateLimit(settings.rate_limit_per_second, burst=settings.rate_limit_burst)
            if settings.rate_limit_per_second
            else None,
            credentials=await _credentials(settings, metrics, stack),
        )


async def _tokens(
    settings: ServerSettings, metrics: Metrics, stack: contextlib.AsyncExitStack
) -> Callable[[], Tokens] | None:
    if settings.accepted_tokens is None:
        return None
    files = FollowedFiles(
        "token file",
        [settings.accepted_tokens],
        lambda contents: Tokens.parse(contents[0].decode()),
        observe=lambda tokens: metrics.observe_credentials("tokens", usable=tokens is not None),
    )
    await stack.enter_async_context(files)
    return lambda: files.value


async def _credentials(
    settings: ServerSettings, metrics: Metrics, stack: contextlib.AsyncExitStack
) -> grpc.ServerCredentials | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    # Without TLS nobody needs the library that reads certificates.
    from server.security.certificates import ServerCertificates, credentials, parse_certificates  # noqa: PLC0415

    def observe(certificates: ServerCertificates | None) -> None:
        metrics.observe_credentials("certificates", usable=certificates is not None)
        if certificates:
            metrics.certificate_expiry.labels(settings.tls_certificate).set(certificates.expires.timestamp())

    authorities = [settings.tls_client_ca] if settings.tls_client_ca else []
    files = FollowedFiles(
        "TLS files", [settings.tls_certificate, *authorities, settings.tls_key], parse_certificates, observe=observe
    )
    await stack.enter_async_context(files)
    return credentials(lambda: files.value)
