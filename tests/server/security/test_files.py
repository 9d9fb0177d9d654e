from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog

from server.errors import StartError
from server.security.files import FollowedFiles
from tests.certificates import replace
from tests.polling import eventually


def parse(contents: Sequence[bytes]) -> list[int]:
    return [int(content) for content in contents]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [replace(tmp_path / name, content) for name, content in (("one", b"1"), ("two", b"2"))]


def followed(paths: list[Path], observed: list[list[int] | None]) -> FollowedFiles[list[int]]:
    return FollowedFiles("number files", paths, parse, observe=observed.append, interval_seconds=0.01)


async def test_changes_are_followed(paths: list[Path]) -> None:
    """A file that is replaced, or written in place, is read again."""
    observed: list[list[int] | None] = []
    async with followed(paths, observed) as files:
        assert files.value == [1, 2]
        replace(paths[0], b"7")
        await eventually(lambda: files.value == [7, 2], within_seconds=30)
        paths[1].write_bytes(b"888")
        await eventually(lambda: files.value == [7, 888], within_seconds=30)

    assert observed == [[1, 2], [7, 2], [7, 888]]


async def test_swapped_symbolic_link_is_followed(tmp_path: Path) -> None:
    """Kubernetes swaps a link to a folder when a secret changes."""
    for name, content in (("old", b"1"), ("new", b"2")):
        (tmp_path / name).mkdir()
        replace(tmp_path / name / "number", content)
    (tmp_path / "data").symlink_to("old")
    async with followed([tmp_path / "data" / "number"], []) as files:
        (tmp_path / "data.new").symlink_to("new")
        (tmp_path / "data.new").rename(tmp_path / "data")

        await eventually(lambda: files.value == [2], within_seconds=30)


async def test_change_that_makes_no_sense_is_said_once_and_the_last_good_value_stays(paths: list[Path]) -> None:
    """A damaged file, or one that is gone, changes nothing; when it is whole again it is read."""
    observed: list[list[int] | None] = []
    with structlog.testing.capture_logs() as log:
        async with followed(paths, observed) as files:
            replace(paths[0], b"x")
            await eventually(lambda: observed[-1] is None, within_seconds=30)
            paths[0].unlink()
            await eventually(lambda: len(observed) == 3, within_seconds=30)
            assert files.value == [1, 2]
            replace(paths[0], b"3")
            await eventually(lambda: files.value == [3, 2], within_seconds=30)

    errors = [entry["event"] for entry in log if entry["log_level"] == "error"]
    assert errors == ["number files changed and cannot be used; the last good one stays"] * 2
    assert observed == [[1, 2], None, None, [3, 2]]


@pytest.mark.parametrize("content", [None, b"x"])
async def test_start_needs_all_files(paths: list[Path], content: bytes | None) -> None:
    """A file that is missing, or makes no sense, prevents the start, with one line."""
    paths[1].unlink()
    if content:
        paths[1].write_bytes(content)

    with pytest.raises(StartError, match="number files: "):
        await followed(paths, []).__aenter__()


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o600, False), (0o400, False), (0o640, False), (0o644, True), (0o660, True)]
)
async def test_secret_that_others_can_read_is_warned_about(paths: list[Path], mode: int, warns: bool) -> None:  # noqa: FBT001
    """The last file is the secret one; its group may read it, as Kubernetes needs."""
    paths[0].chmod(0o644)
    paths[1].chmod(mode)
    with structlog.testing.capture_logs() as log:
        async with followed(paths, []):
            pass

    assert [entry["mode"] for entry in log if entry["log_level"] == "warning"] == ([f"{mode:04o}"] if warns else [])
