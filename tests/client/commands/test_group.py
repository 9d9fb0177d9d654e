import array
import fcntl
import os
import signal
import termios
from pathlib import Path

import grpc
import pytest

from tests.client import commandline, fake_server
from tests.client.fake_server import Failure, FakeServer
from tests.polling import eventually


@pytest.mark.parametrize("command", ["predict -", "models", "models load quick", "health", "health --wait-seconds 0.2"])
async def test_a_server_that_is_down(command: str) -> None:
    """Every command says in one line that nobody is there, where, why, and what to do."""
    with fake_server.nobody_listens() as target:
        finished = await commandline.run(*command.split(), target=target, stdin=b"dog")

    assert finished == commandline.Finished(
        3, "", f"cifarserve: no server at {target}: connection refused; start one with cifarserve-server\n"
    )


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        (grpc.StatusCode.NOT_FOUND, 4, "unknown model 'x'"),
        (grpc.StatusCode.INVALID_ARGUMENT, 4, "unknown model 'x'"),
        (grpc.StatusCode.INTERNAL, 4, "server at {target} failed: unknown model 'x'"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 3, "server at {target} is overloaded: unknown model 'x'"),
    ],
)
async def test_a_server_that_refuses(
    server: FakeServer, pictures: Path, code: grpc.StatusCode, status: int, message: str
) -> None:
    """A request that fails as a whole is one line, and the status tells whether to try again."""
    server.classifier.failures.append(Failure(code, "unknown model 'x'", pushback_ms=-1))

    finished = await commandline.run("predict", str(pictures), target=server.target)

    assert finished == commandline.Finished(status, "", f"cifarserve: {message.format(target=server.target)}\n")


async def test_a_server_that_hangs(server: FakeServer, pictures: Path) -> None:
    """A server that does not answer costs --timeout-seconds."""
    server.classifier.gate.clear()

    finished = await commandline.run("--timeout-seconds", "0.1", "predict", str(pictures), target=server.target)

    assert finished == commandline.Finished(3, "", f"cifarserve: no answer from {server.target} within 0.1 s\n")


async def test_wrong_options() -> None:
    """An option that is wrong is explained with what is right."""
    finished = await commandline.run("predict", "--top-k", "0", "cat.jpg", target="127.0.0.1:1")

    assert finished.status == 2
    assert "Invalid value for '--top-k': 0 is not in the range x>=1." in finished.stderr


async def test_interrupted_while_the_server_works(server: FakeServer, pictures: Path) -> None:
    """Ctrl-C ends the command at once, with one line and the status that shells expect."""
    server.classifier.gate.clear()

    process = await commandline.start("predict", str(pictures), target=server.target)
    await server.classifier.arrived.wait()
    process.send_signal(signal.SIGINT)

    assert await commandline.finish(process) == commandline.Finished(130, "", "cifarserve: interrupted\n")


async def test_interrupted_while_waiting_for_standard_input(server: FakeServer) -> None:
    """Ctrl-C also ends a command that waits for a picture to be typed or piped in."""
    reading, writing = os.pipe()
    os.write(writing, b"the first bytes of a picture")

    process = await commandline.start("predict", "-", target=server.target, stdin=reading)
    await eventually(lambda: _unread_bytes(reading) == 0)
    process.send_signal(signal.SIGINT)

    assert await commandline.finish(process) == commandline.Finished(130, "", "cifarserve: interrupted\n")
    os.close(reading)
    os.close(writing)


async def test_nobody_reads_the_output(server: FakeServer, pictures: Path) -> None:
    """A reader that goes away, such as `head`, ends the command without a word."""
    reading, writing = os.pipe()
    os.close(reading)

    process = await commandline.start("predict", str(pictures), target=server.target, stdout=writing)
    os.close(writing)

    assert await commandline.finish(process) == commandline.Finished(141, "", "")


async def test_a_full_disk(server: FakeServer, pictures: Path) -> None:
    """Output that cannot be written is one line that says why."""
    full = os.open("/dev/full", os.O_WRONLY)

    process = await commandline.start("predict", str(pictures), target=server.target, stdout=full)
    os.close(full)

    assert await commandline.finish(process) == commandline.Finished(
        5, "", "cifarserve: standard output: No space left on device\n"
    )


def _unread_bytes(pipe: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]
