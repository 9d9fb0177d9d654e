"""Certificates: from PEM files to gRPC's server credentials, checked before they are used. Reads no file itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_log = structlog.get_logger(__name__)


class BadCertificates(ValueError):
    """The files hold no usable certificate and key; the message says what is wrong."""


@dataclass(frozen=True)
class ServerCertificates:
    """What a server shows, and what it wants to be shown.

    Attributes:
        chain: PEM: the server's certificate, then those that lead to its authority.
        key: PEM: its private key, not encrypted.
        client_authorities: PEM: whose certificates clients must show; None: clients need none.
        expires: when the first certificate of the chain does.
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_authorities: bytes | None
    expires: datetime

    def to_grpc(self) -> grpc.ServerCertificateConfiguration:
        """Return what gRPC makes handshakes with."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.client_authorities)


def parse_certificates(contents: Sequence[bytes]) -> ServerCertificates:
    """Return the certificates in the contents of two or three files: chain, then clients' authorities, then key.

    An expired certificate is used, with a warning: clients say best what they think of it.

    Raises:
        BadCertificates: a file is not PEM, or the key is not that of the certificate.
    """
    chain, *authorities, key = contents
    certificate = _certificates(chain, "the certificate")[0]
    for each in authorities:
        _certificates(each, "the client CA")
    try:
        public = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError) as exc:  # TypeError: it is encrypted
        raise BadCertificates("the key: expected a PEM private key without a password") from exc
    if public != certificate.public_key():
        raise BadCertificates("the key is not that of the certificate")
    expires = certificate.not_valid_after_utc
    if expires <= datetime.now(UTC):
        _log.warning("the certificate has expired; clients will refuse it", expired=expires.isoformat())
    return ServerCertificates(chain, key, authorities[0] if authorities else None, expires)


def credentials(current: Callable[[], ServerCertificates]) -> grpc.ServerCredentials:
    """Return credentials that make each handshake with the certificates of the moment.

    A connection keeps those that it was made with. Clients must show a certificate when `current` has
    authorities for them.
    """
    used = current()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        latest = current()
        if latest is used:
            return None  # gRPC goes on with what it has
        used = latest
        return latest.to_grpc()

    return grpc.dynamic_ssl_server_credentials(
        used.to_grpc(),
        newer,  # type: ignore[arg-type]  # None is documented, and missing in the stubs
        require_client_authentication=used.client_authorities is not None,
    )


def _certificates(pem: bytes, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise BadCertificates(f"{what}: expected PEM certificates") from exc
