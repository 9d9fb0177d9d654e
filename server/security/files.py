"""Files with secrets: read together, looked at again while the server runs, and followed when they change."""

import asyncio
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Self, TypeVar

import structlog

from server.errors import StartError

_INTERVAL_SECONDS = 1.0

Value = TypeVar("Value")
_Stamp = tuple[tuple[int, int, int, int], ...]

_log = structlog.get_logger(__name__)


class FollowedFiles(Generic[Value]):
    """What some files say, always the newest that made sense.

    Entering reads them, and follows them until it is left. A change that makes no sense, such as a
    certificate whose key has not been written yet, is logged once, and the last good value stays.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        parse: Callable[[Sequence[bytes]], Value],
        *,
        observe: Callable[[Value | None], None] = lambda _: None,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        """Read nothing yet.

        Args:
            what: names the files for people.
            paths: of the files; the last one holds a secret.
            parse: makes the value of their contents; raises ValueError when they make no sense.
            observe: is told of every value, and of None when a change made no sense.
            interval_seconds: how often to look.
        """
        self._what = what
        self._paths = paths
        self._parse = parse
        self._observe = observe
        self._interval_seconds = interval_seconds

    async def __aenter__(self) -> Self:
        """Read the files.

        Raises:
            StartError: they cannot be read, or make no sense.
        """
        try:
            self._stamp = _stamp(self._paths)
            self.value = self._parse(_read(self._paths))
        except (OSError, ValueError) as exc:
            raise StartError(f"{self._what}: {exc}") from exc
        self._observe(self.value)
        self._warn_of_permissions()
        self._following = asyncio.create_task(self._follow(), name=f"follow the {self._what}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._following.cancel()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds)
            # Files of a secret may lie on a slow mount.
            await asyncio.to_thread(self._look)

    def _look(self) -> None:
        try:
            stamp = _stamp(self._paths)
            if stamp == self._stamp:
                return
            value = self._parse(_read(self._paths))
            if stamp != _stamp(self._paths):
                return  # still being written; the next look sees all of it
        except (OSError, ValueError) as exc:
            self._refuse(exc)
            return
        self._stamp = stamp
        self.value = value
        self._observe(value)
        _log.info(f"{self._what} read again", paths=list(map(str, self._paths)))
        self._warn_of_permissions()

    def _refuse(self, reason: Exception) -> None:
        """Say once what is wrong with what lies there now."""
        try:
            stamp: _Stamp = _stamp(self._paths)
        except OSError:
            stamp = ()
        if stamp != self._stamp:
            self._stamp = stamp
            self._observe(None)
            _log.error(f"{self._what} changed and cannot be used; the last good one stays", reason=str(reason))

    def _warn_of_permissions(self) -> None:
        secret = self._paths[-1]
        mode = stat.S_IMODE(secret.stat().st_mode)
        if mode & (stat.S_IRWXO | stat.S_IWGRP):
            _log.warning(
                "a secret can be read or changed by others; expected at most 0640",
                path=str(secret),
                mode=f"{mode:04o}",
            )


def _stamp(paths: Sequence[Path]) -> _Stamp:
    """Return what changes when a file is written or replaced, also behind a symbolic link as Kubernetes makes them."""
    stats = [path.stat() for path in paths]
    return tuple((each.st_mtime_ns, each.st_size, each.st_ino, each.st_mode) for each in stats)


def _read(paths: Sequence[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]
