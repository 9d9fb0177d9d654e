"""A disk that is full, or that lets nobody write, costs the publisher its version and the callers nothing."""

import contextlib
import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from client.admin import ModelAdminClient
from client.errors import NotPossible
from tests.conftest import publish
from tests.polling import eventually
from tests.reliability.conftest import Figure, Scale
from tests.reliability.load import answers, closed_loops, predict_call
from tests.reliability.versions import MODEL, REQUEST
from tests.server.process import running_server

_DISK_MIB = 4  # room for a few versions of `quick`, 0.6 MiB each


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system in memory."""
    path = tmp_path / "disk"
    path.mkdir()
    try:
        _mount(f"size={_DISK_MIB}m", path)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a file system on this machine")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _mount(options: str, path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True, capture_output=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leave no room on the disk meanwhile."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Let nobody write to the disk meanwhile."""
    _mount("remount,ro", disk)
    try:
        yield
    finally:
        _mount("remount,rw", disk)


def files(disk: Path) -> list[Path]:
    """Everything that is on the disk."""
    return sorted(disk.rglob("*"))


async def test_serving_goes_on_beside_a_full_disk(disk: Path, scale: Scale, figure: Figure) -> None:
    """T23. What cannot be written is refused with its reason and leaves nothing; callers notice nothing of it."""
    each = scale.choose(short=50, full=1_000)
    publish(disk, MODEL, seed=1)
    flags = ("--repository", disk, "--poll-interval-seconds", "0.2")
    refusals = []
    async with running_server(*flags) as server:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            ModelAdminClient(server.address, timeout_seconds=60) as admin,
            closed_loops(predict_call(channel, REQUEST), callers=4) as tally,
        ):
            for trouble, number in ((full, errno.ENOSPC), (read_only, errno.EROFS)):
                with trouble(disk):
                    before = files(disk)
                    with pytest.raises(OSError, match=r".") as publishing:
                        publish(disk, MODEL, seed=2)
                    with pytest.raises(NotPossible, match="cannot be written") as pinning:
                        await admin.pin(MODEL, 1)
                    assert publishing.value.errno == number
                    assert files(disk) == before
                    refusals.append(str(pinning.value))
                    await answers(tally, tally.answered + each)
            publish(disk, MODEL, seed=2)
            await eventually(lambda: server.metric("cifarserve_model_swaps_total", model=MODEL) == 1, within_seconds=60)
            await answers(tally, tally.answered + each)
        assert await server.stop() == 0

    assert tally.failed == 0
    assert [reason.partition("written: ")[2] for reason in refusals] == [
        "No space left on device",
        "Read-only file system",
    ]
    figure(
        promise="a full or read-only disk costs no caller anything, and leaves no half-published version",
        tested=f"a version published, and a pin asked for, on a full disk of {_DISK_MIB} MiB and on a read-only one,"
        " under 4 closed-loop callers; then published with room",
        value=f"0 errors in {tally.answered:,} requests; 4 of 4 writes refused with the reason; swapped with room",
    )
