"""From the arguments of a command line to pictures. Reads files; knows no server."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from client.errors import PictureMissing
from client.requests import MAX_PICTURE_BYTES

_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Picture:
    """The bytes of a picture, or one line that says why there are none.

    Attributes:
        name: as a person would name it: the path, or "-" for standard input.
        data: a JPEG or PNG file, if it is one; empty when there is an error.
        error: why the picture could not be read; None when it was.
    """

    name: str
    data: bytes
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where one picture comes from: a file, or standard input, whose picture was read already."""

    name: str
    picture: Picture | None = None

    def read(self) -> Picture:
        """Return the picture, or the reason why there is none; never raises an OSError."""
        return self.picture or _read_file(self.name)


def expand(arguments: Iterable[str]) -> list[Source]:
    """Return the pictures that the arguments name, in their order.

    A file is itself, a folder is the JPEG and PNG files directly in it, sorted by name, and "-" is
    standard input, which is read at once: a read that waits for a person can be interrupted only here.

    Raises:
        PictureMissing: there is no such file, or a folder has no pictures; nothing was read then.
    """
    names = [name for argument in arguments for name in _expand(argument)]
    return [Source(name, _read(sys.stdin.buffer, name) if name == "-" else None) for name in names]


def _expand(argument: str) -> Iterator[str]:
    path = Path(argument)
    if argument != "-" and not path.exists():
        raise PictureMissing(f"{argument}: no such file or folder")
    if argument != "-" and path.is_dir():
        yield from _pictures_in(path)
    else:
        yield argument


def _pictures_in(folder: Path) -> list[str]:
    try:
        names = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    except OSError as exc:
        raise PictureMissing(f"{folder}: {exc.strerror}") from exc
    if not names:
        raise PictureMissing(f"{folder}: no pictures in this folder; expected files named {', '.join(_SUFFIXES)}")
    return names


def _read_file(name: str) -> Picture:
    try:
        with Path(name).open("rb") as file:
            return _read(file, name)
    except OSError as exc:
        return Picture(name, b"", error=exc.strerror or str(exc))


def _read(file: BinaryIO, name: str) -> Picture:
    data = file.read(MAX_PICTURE_BYTES + 1)  # no more: it may be a device that never ends
    if len(data) > MAX_PICTURE_BYTES:
        return Picture(name, b"", error=f"expected at most {MAX_PICTURE_BYTES:,} bytes, got more")
    return Picture(name, data)
