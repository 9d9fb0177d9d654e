from pathlib import Path

import pytest

from models import durable
from models.durable import replace_durably


def test_content_is_replaced(tmp_path: Path) -> None:
    """The new content is there, readable by other users, and nothing else is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    replace_durably(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of it leaves the old file, and no part of the new one."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write_durably", full)

    with pytest.raises(OSError, match="No space left"):
        replace_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
