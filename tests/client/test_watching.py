import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from client.errors import PictureMissing
from client.watching import FolderWatch


class FakeClock:
    """Stands still until it is told to go on.

    Attributes:
        now: seconds.
    """

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


@pytest.fixture
def png(tmp_path: Path) -> bytes:
    """A PNG file's bytes."""
    path = tmp_path / "somewhere.png"
    Image.effect_noise((32, 32), 60).save(path)
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / "watched"
    path.mkdir()
    return path


def test_a_new_file_is_given_out_once(folder: Path, png: bytes) -> None:
    """What comes is given out when it did not change between two looks, and never again."""
    watch = FolderWatch(folder, clock=FakeClock())
    (folder / "new.png").write_bytes(png)

    looks = [watch.look() for _ in range(4)]

    assert looks == [[], [str(folder / "new.png")], [], []]


def test_what_lies_there_is_not_new(folder: Path, png: bytes) -> None:
    """Only what comes later is given out."""
    (folder / "old.png").write_bytes(png)

    watch = FolderWatch(folder, clock=FakeClock())

    assert [watch.look() for _ in range(3)] == [[], [], []]


@pytest.mark.parametrize("file_format", ["png", "jpeg"])
def test_a_half_written_file_waits_for_its_end(folder: Path, tmp_path: Path, file_format: str) -> None:
    """While a file does not end as its format ends, it is left alone, though nobody writes for a moment."""
    whole = tmp_path / f"whole.{file_format}"
    Image.effect_noise((64, 64), 60).save(whole)
    data = whole.read_bytes()
    watch, path = FolderWatch(folder, clock=FakeClock()), folder / f"slow.{file_format}"

    path.write_bytes(data[: len(data) // 2])
    before = [watch.look() for _ in range(5)]
    path.write_bytes(data)
    after = [watch.look() for _ in range(2)]

    assert before == [[]] * 5
    assert after == [[], [str(path)]]


def test_a_file_that_never_ends_is_given_out_at_last(folder: Path) -> None:
    """A damaged file is not kept for ever: after the time to settle it is the server that says what is wrong."""
    clock = FakeClock()
    watch = FolderWatch(folder, settle_seconds=2.0, clock=clock)
    (folder / "damaged.png").write_bytes(b"half a picture")
    assert [watch.look(), watch.look()] == [[], []]

    clock.now += 2.0

    assert watch.look() == [str(folder / "damaged.png")]


def test_a_file_that_changes_is_new_again(folder: Path, png: bytes) -> None:
    """Also one that was given out half, because its writer had paused."""
    watch, path = FolderWatch(folder, clock=FakeClock()), folder / "a.png"
    path.write_bytes(png)
    assert [watch.look(), watch.look()] == [[], [str(path)]]

    path.write_bytes(png + png)

    assert [watch.look(), watch.look()] == [[], [str(path)]]


def test_others_temporary_files_are_left_alone(folder: Path, png: bytes) -> None:
    """A hidden file is none until it has its name; one that is moved into its place is."""
    watch = FolderWatch(folder, clock=FakeClock())
    (folder / ".upload.png").write_bytes(png)
    (folder / "notes.txt").write_bytes(png)
    assert [watch.look(), watch.look()] == [[], []]

    (folder / ".upload.png").replace(folder / "upload.png")

    assert [watch.look(), watch.look()] == [[], [str(folder / "upload.png")]]


def test_the_oldest_comes_first(folder: Path, png: bytes) -> None:
    """Files that came between two looks are given out in the order in which they were written."""
    watch = FolderWatch(folder, clock=FakeClock())
    for name, modified in (("a.png", 30), ("b.png", 10), ("c.png", 20)):
        (folder / name).write_bytes(png)
        os.utime(folder / name, (modified, modified))

    watch.look()

    assert [Path(name).name for name in watch.look()] == ["b.png", "c.png", "a.png"]


def test_a_folder_that_goes_away_is_an_error(folder: Path) -> None:
    """Nothing will ever come into a folder that is not there."""
    watch = FolderWatch(folder)
    shutil.rmtree(folder)

    with pytest.raises(PictureMissing, match="watched: No such file or directory"):
        watch.look()
