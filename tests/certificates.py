"""Certificates made for one test: an authority, what it signs, and the files that servers and clients read."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme

EXPIRED = datetime(2020, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write both, and return where."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            replace(path, content)
        return paths


class Authority:
    """An authority of its own, which signs what it is asked to."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def sign(self, *names: str, expires: datetime | None = None) -> Pair:
        """Return a certificate for host names and addresses, by default those of this machine."""
        signed = self._ca.issue_cert(*(names or ("127.0.0.1", "localhost")), not_after=expires)
        return Pair(b"".join(each.bytes() for each in signed.cert_chain_pems), signed.private_key_pem.bytes())


def replace(path: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, as a whole: nobody sees half of it."""
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    return new.replace(path)
