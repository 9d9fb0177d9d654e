"""Which pictures in a folder are new and whole. Looks at files; knows no server and never waits."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client.sources import PathName, files_in

SETTLE_SECONDS = 2.0

_JPEG_BEGIN, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_BEGIN, _PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"

_Stamp = tuple[int, int, int]


@dataclass(slots=True)
class _Seen:
    """A file as it was when it was last found changed.

    Attributes:
        stamp: what changes when somebody writes: inode, bytes, time of modification.
        since: when that was noticed, in seconds.
        is_taken: whether it was given out.
    """

    stamp: _Stamp
    since: float
    is_taken: bool


class FolderWatch:
    """Gives out every JPEG and PNG file that comes into a folder, once, when it is whole.

    What lies there at the beginning is not new. A file is given out when it was the same in two looks and
    ends as its format ends. One that does not, because it is damaged or its writer pauses, is given out
    when nobody has written to it for `settle_seconds`. A file that is written again afterwards is new
    again. Files whose names begin with a dot are others' temporary ones, and are left alone.

    Raises:
        PictureMissing: the folder cannot be read, at the beginning or later.
    """

    def __init__(
        self,
        folder: PathName,
        *,
        settle_seconds: float = SETTLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._seen = {name: _Seen(stamp, 0.0, is_taken=True) for name, stamp in self._stamps().items()}

    def look(self) -> list[str]:
        """Return the files that have become whole since the last look, the oldest first."""
        now, stamps = self._clock(), self._stamps()
        self._seen = {name: self._notice(name, stamp, now) for name, stamp in stamps.items()}
        whole = [name for name, seen in self._seen.items() if seen.since < now and self._is_due(name, seen, now)]
        for name in whole:
            self._seen[name].is_taken = True
        return sorted(whole, key=lambda name: (stamps[name][2], name))

    def _notice(self, name: str, stamp: _Stamp, now: float) -> _Seen:
        seen = self._seen.get(name)
        return seen if seen and seen.stamp == stamp else _Seen(stamp, now, is_taken=False)

    def _is_due(self, name: str, seen: _Seen, now: float) -> bool:
        return not seen.is_taken and (now - seen.since >= self._settle_seconds or _ends_well(Path(name)))

    def _stamps(self) -> dict[str, _Stamp]:
        stamps = {}
        for entry in files_in(self._folder):
            status = _status_of(entry)
            if status and not entry.name.startswith("."):
                stamps[entry.path] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return stamps


def _status_of(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # gone meanwhile
        return None


def _ends_well(path: Path) -> bool:
    """Return whether a file begins and ends as a JPEG or PNG file does."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(_PNG_BEGIN))
            file.seek(-min(len(_PNG_END), os.fstat(file.fileno()).st_size), os.SEEK_END)
            end = file.read()
    except OSError:
        return False
    return (begin == _PNG_BEGIN and end == _PNG_END) or (begin.startswith(_JPEG_BEGIN) and end.endswith(_JPEG_END))
