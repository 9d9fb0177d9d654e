import pytest
import structlog

from server.security.certificates import BadCertificates, parse_certificates
from tests.certificates import EXPIRED, Authority

AUTHORITY = Authority()
PAIR = AUTHORITY.sign()


def test_certificate_and_key_that_fit_are_taken() -> None:
    """Chain, authorities and key are kept as they came, and the key shows in no text."""
    certificates = parse_certificates([PAIR.certificate, AUTHORITY.pem, PAIR.key])

    assert (certificates.chain, certificates.client_authorities, certificates.key) == (
        PAIR.certificate,
        AUTHORITY.pem,
        PAIR.key,
    )
    assert "PRIVATE" not in repr(certificates)
    assert parse_certificates([PAIR.certificate, PAIR.key]).client_authorities is None


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([b"", PAIR.key], "the certificate: expected PEM certificates"),
        ([PAIR.key, PAIR.key], "the certificate: expected PEM certificates"),
        ([PAIR.certificate, PAIR.certificate], "the key: expected a PEM private key"),
        ([PAIR.certificate, PAIR.key[:100]], "the key: expected a PEM private key"),
        ([PAIR.certificate, AUTHORITY.sign().key], "the key is not that of the certificate"),
        ([PAIR.certificate, b"junk", PAIR.key], "the client CA: expected PEM certificates"),
    ],
)
def test_what_does_not_fit_is_refused(contents: list[bytes], message: str) -> None:
    """GRPC would only find out at the next handshake."""
    with pytest.raises(BadCertificates, match=message):
        parse_certificates(contents)


def test_expired_certificate_is_used_with_a_warning() -> None:
    """A server with an old certificate still starts, and its log says what clients will say."""
    old = AUTHORITY.sign(expires=EXPIRED)
    with structlog.testing.capture_logs() as log:
        certificates = parse_certificates([old.certificate, old.key])

    assert certificates.expires == EXPIRED
    assert [entry["log_level"] for entry in log] == ["warning"]
