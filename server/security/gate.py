"""Whether a call may go on: by its method, its metadata and its peer. Raises errors of `server.errors`."""

import ipaddress
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from urllib.parse import unquote

from server.errors import AccessDenied, Unauthenticated
from server.security.scopes import Scope, scope_of
from server.security.tokens import Tokens

# Whose token the call that runs now has shown; empty: nobody's.
CALLER: ContextVar[str] = ContextVar("caller", default="")


class Gate:
    """Lets calls pass by their tokens; without tokens everybody may infer, and only this machine administer."""

    def __init__(self, tokens: Callable[[], Tokens] | None = None) -> None:
        """Ask `tokens` for those of the moment; None: there are no tokens."""
        self._tokens = tokens

    @property
    def asks_for_tokens(self) -> bool:
        """Whether `check_metadata` must be asked about each call."""
        return self._tokens is not None

    def asks_for_peer(self, method: str) -> bool:
        """Return whether `check_peer` must be asked about each call of a method, by its full name."""
        return self._tokens is None and scope_of(method) is Scope.ADMIN

    def check_metadata(self, method: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Look for a token that is good for a method, and remember whose it is.

        Raises:
            Unauthenticated: there is none, or nobody knows it.
            AccessDenied: it is not good enough.
        """
        scope = scope_of(method)
        if self._tokens is None or scope is Scope.OPEN:
            return
        authorization = next((value for key, value in metadata or () if key == "authorization"), "")
        if not authorization:
            raise Unauthenticated("expected 'authorization: Bearer TOKEN' in the metadata, got none")
        caller = self._tokens().caller(str(authorization))
        if caller is None:
            raise Unauthenticated("the token is not one that this server knows")
        if not caller.may(scope):
            raise AccessDenied(f"this method needs a token of scope {scope}, got one of scope {caller.scope}")
        CALLER.set(caller.name)

    def check_peer(self, peer: str) -> None:
        """Look where a call comes from.

        Raises:
            AccessDenied: from another machine.
        """
        if not is_local(peer):
            raise AccessDenied("only callers on the server's own machine may change what it serves")


def host_of(peer: str) -> str:
    """Return the address in gRPC's name for a caller, without its port: one for all connections of a machine.

    `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000` and `unix:...` are the forms that gRPC gives (its
    documentation on naming); of the last, and of any other, the whole is returned.
    """
    kind, _, rest = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return peer
    return unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]


def is_local(peer: str) -> bool:
    """Return whether gRPC's name for a caller is an address of this machine's loopback, or a Unix socket."""
    if peer.partition(":")[0] == "unix":
        return True
    try:
        address = ipaddress.ip_address(host_of(peer))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # an IPv4 caller of an IPv6 socket
    return (mapped or address).is_loopback
