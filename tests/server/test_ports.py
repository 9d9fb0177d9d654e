import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from server.errors import StartError
from server.ports import held_port


@contextmanager
def listener(port: int) -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        yield server


def test_several_listen_on_a_held_port() -> None:
    """Who says SO_REUSEPORT may listen on the port that was picked; every connection reaches one of them."""
    with held_port("127.0.0.1", 0) as port, listener(port) as one, listener(port) as other:
        one.settimeout(0)
        other.settimeout(0)
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(64)]
        accepted = [_accept_all(one), _accept_all(other)]
        for client in clients:
            client.close()

    assert sum(accepted) == 64
    assert min(accepted) > 0


@pytest.mark.parametrize("share", [False, True])
def test_taken_port_is_refused(share: bool) -> None:  # noqa: FBT001
    """A port on which somebody listens is an error, also when he would share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(share))
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: the port is taken"), _held(port):
            pass


def test_held_port_is_refused_before_anybody_listens() -> None:
    """Two servers that start in the same moment do not share a port by accident."""
    with _held(0) as port, pytest.raises(StartError, match="the port is taken"), _held(port):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_address_of_another_machine_is_refused(host: str) -> None:
    """An address that is not this machine's is said in one line."""
    with pytest.raises(StartError, match=f"cannot listen on {host}:0"), held_port(host, 0):
        pass


def _held(port: int) -> AbstractContextManager[int]:
    return held_port("127.0.0.1", port)


def _accept_all(server: socket.socket) -> int:
    count = 0
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1
