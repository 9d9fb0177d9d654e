import threading
from pathlib import Path

import pytest

from models.desired import DESIRED_FILE, DesiredState, change_desired, read_desired
from models.errors import RepositoryDamaged
from tests.models.ordinary_user import folder_of_an_ordinary_user


def test_nobody_said_anything(tmp_path: Path) -> None:
    """Without a file, a model is wanted, in its newest version, and not pinned."""
    assert read_desired(tmp_path) == DesiredState(pinned_version=0, loaded_version=0, unloaded=False, generation=0)


def test_what_is_wanted_survives(tmp_path: Path) -> None:
    """What was changed is read back, and the file is all that is left in the folder."""
    change_desired(tmp_path, lambda desired: desired.pinned(3))
    change_desired(tmp_path, DesiredState.without)

    assert read_desired(tmp_path) == DesiredState(pinned_version=3, unloaded=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [DESIRED_FILE]


def test_loading_undoes_unloading() -> None:
    """A model that was unloaded is wanted again once it is loaded; a pin stays through both."""
    unloaded = DesiredState(pinned_version=2, loaded_version=4).without()

    assert (unloaded.loaded_version, unloaded.unloaded) == (0, True)
    assert unloaded.loaded(5) == DesiredState(pinned_version=2, loaded_version=5)


@pytest.mark.parametrize("content", ["", "{", '{"pinned": 3}', '{"pinned_version": -1}', '{"unloaded": "perhaps"}'])
def test_a_file_that_is_not_valid_is_an_error(tmp_path: Path, content: str) -> None:
    """What an unreadable file wanted is not guessed: the error names the file, and nothing overwrites it."""
    (tmp_path / DESIRED_FILE).write_text(content)

    with pytest.raises(RepositoryDamaged, match=DESIRED_FILE):
        read_desired(tmp_path)
    with pytest.raises(RepositoryDamaged):
        change_desired(tmp_path, lambda desired: desired.pinned(1))
    assert (tmp_path / DESIRED_FILE).read_text() == content


def test_changes_of_several_callers_are_all_kept(tmp_path: Path) -> None:
    """Of several processes one at a time changes what is wanted: none overwrites another's change."""

    def retry_often() -> None:
        for _ in range(20):
            change_desired(tmp_path, DesiredState.afresh)

    threads = [threading.Thread(target=retry_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert read_desired(tmp_path).generation == 80


def test_a_folder_that_cannot_be_written() -> None:
    """A repository that is read-only is an OSError, and what was wanted still is."""
    with folder_of_an_ordinary_user() as folder:
        change_desired(folder, lambda desired: desired.pinned(1))
        folder.chmod(0o500)

        with pytest.raises(PermissionError):
            change_desired(folder, lambda desired: desired.pinned(2))
        assert read_desired(folder).pinned_version == 1
