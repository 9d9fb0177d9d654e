from pathlib import Path

import pytest


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a dog and a ship."""
    (tmp_path / "dog.png").write_bytes(b"dog")
    (tmp_path / "my ship.jpg").write_bytes(b"ship")
    return tmp_path
