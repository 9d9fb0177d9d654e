"""A TCP port that several processes listen on together, by SO_REUSEPORT; the kernel deals out the connections."""

import contextlib
import socket
from collections.abc import Iterator

from server.errors import StartError


@contextlib.contextmanager
def held_port(host: str, port: int) -> Iterator[int]:
    """Keep a port for processes that listen on it with SO_REUSEPORT; yields it, also when `port` is 0.

    The socket that holds it never listens, so no connection is dealt to it.

    Raises:
        StartError: somebody listens on the port, or the address is not this machine's.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = found[0][0], found[0][4]
        # SO_REUSEPORT would share the port with any other server of this user, so it is first asked for without.
        with socket.socket(family) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended is no obstacle
            alone.bind(address)
            address = alone.getsockname()
        holder = _bound(family, address)
    except OSError as exc:
        raise cannot_listen(host, port) from exc
    with holder:
        yield int(address[1])


def cannot_listen(host: str, port: int) -> StartError:
    """Return the error that says so, and what to do."""
    return StartError(
        f"cannot listen on {host}:{port}: the port is taken or the address is not this machine's;"
        " choose another --port or --host"
    )


def _bound(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
    holder = socket.socket(family)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(address)
        # Who asks as `held_port` does before anybody listens must be refused too.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        holder.close()
        raise
    return holder
