"""What a client shows to a server, and what it wants to be shown: TLS and a token. Reads no file."""

from dataclasses import dataclass, field

import grpc


@dataclass(frozen=True, slots=True)
class Tls:
    """An encrypted connection to a server whose certificate was checked.

    Attributes:
        ca: PEM certificates of the authorities that are trusted; None: the public ones that gRPC knows.
        certificate: PEM; what the client shows to servers that ask for it (mutual TLS), and what leads to
            its authority. None: nothing.
        key: PEM, without a password: that of `certificate`.
        server_name: whom the server's certificate must be for; empty: the host of the target.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    server_name: str = ""

    def to_grpc(self) -> grpc.ChannelCredentials:
        """Return what gRPC makes a connection with."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a client proves who it is.

    Attributes:
        tls: None: the connection is not encrypted.
        token: one of the server's tokens; empty: none. Without TLS it travels readable.
    """

    tls: Tls | None = None
    token: str = field(default="", repr=False)

    def to_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what goes with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


NO_CREDENTIALS = Credentials()
