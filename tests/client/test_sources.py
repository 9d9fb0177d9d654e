import os
import sys
from pathlib import Path

import pytest

from client.errors import PictureMissing
from client.requests import MAX_PICTURE_BYTES
from client.sources import Picture, expand


def test_files_and_folders_in_their_order(tmp_path: Path) -> None:
    """Files stay in the order of the arguments, and a folder is its pictures, sorted by name."""
    folder = tmp_path / "folder"
    (folder / "below.png").mkdir(parents=True)
    for name in ("b.JPG", "a.png", "c.jpeg", "notes.txt"):
        (folder / name).write_bytes(name.encode())
    last = tmp_path / "z.gif"
    last.write_bytes(b"z")

    sources = expand([str(last), str(folder)])

    assert [Path(source.name).name for source in sources] == ["z.gif", "a.png", "b.JPG", "c.jpeg"]
    assert [source.read().data for source in sources] == [b"z", b"a.png", b"b.JPG", b"c.jpeg"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hyphen is the picture on standard input."""
    with Path(os.devnull).open("rb") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)

        [source] = expand(["-"])

    assert source.read() == Picture("-", b"")


def test_standard_input_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was started without standard input says so of that picture."""
    monkeypatch.setattr(sys, "stdin", None)

    [source] = expand(["-"])

    assert source.read() == Picture("-", b"", error="standard input is closed")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """An argument that does not exist is an error before anything is read."""
    with pytest.raises(PictureMissing, match=r"^nosuch\.jpg: no such file or folder$"):
        expand([str(tmp_path), "nosuch.jpg"][1:])


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    """A folder that holds nothing to classify is an error that says what was looked for."""
    with pytest.raises(PictureMissing, match=r"no pictures in this folder; expected files named \.jpg, \.jpeg, \.png$"):
        expand([str(tmp_path)])


def test_a_file_that_vanished_is_a_picture_with_an_error(tmp_path: Path) -> None:
    """A file that cannot be read any more fails alone."""
    path = tmp_path / "cat.png"
    path.touch()
    [source] = expand([str(path)])
    path.unlink()

    assert source.read() == Picture(str(path), b"", error="No such file or directory")


def test_a_device_that_never_ends_is_not_read_to_its_end() -> None:
    """No more is read than could be sent."""
    [source] = expand(["/dev/zero"])

    assert source.read().error == f"expected at most {MAX_PICTURE_BYTES:,} bytes, got more"


def test_the_largest_picture_is_read(tmp_path: Path) -> None:
    """The limit itself is allowed."""
    path = tmp_path / "large.png"
    path.write_bytes(bytes(MAX_PICTURE_BYTES))

    [source] = expand([str(path)])

    assert len(source.read().data) == MAX_PICTURE_BYTES
