"""Writing files so that they survive a crash: whole or not at all, and on the disk before the call returns."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# What a killed writer leaves behind begins with this.
WRITING_PREFIX = ".writing-"


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a new file and flush it to the disk; its folder is flushed by `sync_folder`."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes | memoryview) -> None:
    """Put `content` in the place of a file, in one step: a reader sees the old content or the new.

    Raises:
        OSError: the folder cannot be written, or its disk is full; it names `path`. The old file is still there, and
            nothing else is left.
    """
    try:
        with _beside(path) as writing:
            write_durably(writing, content)
            writing.chmod(0o644)  # mkstemp's 0600 would hide it from a server under another user
            writing.rename(path)
        sync_folder(path.parent)
    except OSError as exc:  # a write to a full disk does not say which file it was for
        raise OSError(exc.errno, exc.strerror, str(path)) from exc


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new file in the same folder, which is gone at the end unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=WRITING_PREFIX, dir=path.parent)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(OSError):
            Path(name).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries: what was made or renamed in it stays so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
