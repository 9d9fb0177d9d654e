"""Writing files so that they survive a crash: whole or not at all, and on the disk before the call returns."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and flush it to the disk; its folder is flushed by `sync_folder`."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Put `content` in the place of a file, in one step: a reader sees the old content or the new.

    Raises:
        OSError: the folder cannot be written; the old file is still there, and nothing else is left.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(descriptor)
    try:
        write_durably(Path(name), content)
        Path(name).chmod(0o644)  # mkstemp's 0600 would hide it from a server under another user
        Path(name).rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries: what was made or renamed in it stays so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
