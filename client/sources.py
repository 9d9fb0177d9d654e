"""From the names of files and folders to pictures. Reads files; knows no server."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from client.errors import PictureMissing
from client.requests import MAX_PICTURE_BYTES
from client.standard_input import read_standard_input

_SUFFIXES = (".jpg", ".jpeg", ".png")

PathName = str | os.PathLike[str]


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
    return [Source(name, _read_standard_input(name) if name == "-" else None) for name in names]


def sources_of(files: PathName | Iterable[PathName]) -> Iterable[Source]:
    """Return the pictures that `files` names: a file, a folder, or any number of both, which are looked at one by one.

    Raises:
        PictureMissing: the one file or folder is not there, or a folder has no pictures.
    """
    if isinstance(files, str | os.PathLike):
        return [Source(name) for name in _files_of(os.fspath(files))]
    return (Source(name) for path in files for name in _look_into(os.fspath(path)))


def files_in(folder: PathName) -> list[os.DirEntry[str]]:
    """Return the JPEG and PNG files directly in a folder, by their names, in no order.

    Raises:
        PictureMissing: the folder cannot be read.
    """
    try:
        # Asking each of ten thousand files what it is would take as long as reading it: the folder knows already.
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.name.lower().endswith(_SUFFIXES) and entry.is_file()]
    except OSError as exc:
        raise PictureMissing(f"{os.fspath(folder)}: {exc.strerror}") from exc


def _expand(argument: str) -> Iterable[str]:
    return [argument] if argument == "-" else _files_of(argument)


def _files_of(name: str) -> list[str]:
    if not Path(name).exists():
        raise PictureMissing(f"{name}: no such file or folder")
    return _look_into(name)


def _look_into(name: str) -> list[str]:
    """Return the pictures of a folder; what is no folder is itself, and is missed when it is read."""
    if not Path(name).is_dir():
        return [name]
    names = sorted(entry.path for entry in files_in(Path(name)))
    if not names:
        raise PictureMissing(f"{name}: no pictures in this folder; expected files named {', '.join(_SUFFIXES)}")
    return names


def _read_standard_input(name: str) -> Picture:
    try:
        return _to_picture(read_standard_input(MAX_PICTURE_BYTES + 1), name)
    except OSError as exc:
        return Picture(name, b"", error=exc.strerror or str(exc))


def _read_file(name: str) -> Picture:
    # File objects, and a buffer for the largest picture there may be, would cost several times what the reading does.
    try:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                return _to_picture(os.read(descriptor, min(status.st_size, MAX_PICTURE_BYTES) + 1), name)
            with open(descriptor, "rb", closefd=False) as stream:  # a pipe gives its bytes in pieces
                return _to_picture(stream.read(MAX_PICTURE_BYTES + 1), name)  # no more: it may be a device
        finally:
            os.close(descriptor)
    except OSError as exc:
        return Picture(name, b"", error=exc.strerror or str(exc))


def _to_picture(data: bytes, name: str) -> Picture:
    if len(data) > MAX_PICTURE_BYTES:
        return Picture(name, b"", error=f"expected at most {MAX_PICTURE_BYTES:,} bytes, got more")
    return Picture(name, data)
