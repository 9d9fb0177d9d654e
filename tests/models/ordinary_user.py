"""Permissions as a server under its own user meets them, also where the tests run as root."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NOBODY = 65534


@contextlib.contextmanager
def folder_of_an_ordinary_user() -> Iterator[Path]:
    """Make an empty folder whose owner runs what is inside `with`; not root, whom permissions do not bind."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if os.getuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, 0)
            stack.callback(os.setresuid, 0, 0, 0)
        yield Path(folder)
