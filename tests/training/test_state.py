import errno
import os
from pathlib import Path

import pytest
import torch

from training.errors import StateMismatch
from training.state import RunFolder

CPU = torch.device("cpu")


def saved_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_newest_state_comes_back(tmp_path: Path) -> None:
    """What was saved last is what is loaded, tensors and numbers alike."""
    folder = RunFolder(tmp_path / "new" / "run", keep=2)
    folder.save({"epoch": 1}, epoch=1)
    folder.save({"epoch": 1, "step": 7, "weights": torch.arange(3)}, epoch=1, step=7)

    state = folder.load(device=CPU)

    assert folder.newest() == (1, 7)
    assert state["step"] == 7
    assert torch.equal(state["weights"], torch.arange(3))


def test_old_states_are_dropped(tmp_path: Path) -> None:
    """Only the newest `keep` states stay, counted as numbers and not as words, and the best beside them."""
    folder = RunFolder(tmp_path, keep=2)
    for epoch in (8, 9, 10, 11):
        folder.save({"epoch": epoch}, epoch=epoch, best=epoch == 9)

    assert saved_names(tmp_path) == ["best.pt", "epoch-0010.pt", "epoch-0011.pt"]
    assert folder.best(device=CPU) == {"epoch": 9}


def test_nothing_to_resume(tmp_path: Path) -> None:
    """A folder without a state says so, and names itself."""
    with pytest.raises(StateMismatch, match=f"--resume: no saved state in {tmp_path}"):
        RunFolder(tmp_path, keep=1).load(device=CPU)


def test_file_that_is_no_state(tmp_path: Path) -> None:
    """A damaged state is one line with its path."""
    (tmp_path / "epoch-0003.pt").write_bytes(b"half of a")

    with pytest.raises(StateMismatch, match=r"epoch-0003.pt: not a saved state: "):
        RunFolder(tmp_path, keep=1).load(device=CPU)


def test_cleared_folder_keeps_other_files(tmp_path: Path) -> None:
    """Beginning again removes states and the remains of killed writers, nothing else."""
    folder = RunFolder(tmp_path, keep=2)
    folder.save({}, epoch=1, best=True)
    (tmp_path / ".writing-abc").touch()
    (tmp_path / "log.txt").touch()

    folder.clear()

    assert saved_names(tmp_path) == ["log.txt"]


def test_full_disk_leaves_the_state_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails half-way names its file; the last whole state is still there, and nothing half-written."""
    folder = RunFolder(tmp_path, keep=1)
    folder.save({"epoch": 1}, epoch=1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left on device") as caught:
        folder.save({"epoch": 2}, epoch=2)

    assert caught.value.filename == f"{tmp_path}/epoch-0002.pt"
    assert saved_names(tmp_path) == ["epoch-0001.pt"]
