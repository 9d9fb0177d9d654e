import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.ordinary_user import folder_of_an_ordinary_user
from training import publication
from training.publication import check_writable, code_revision


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout of one commit, which the code takes for its own."""
    monkeypatch.delenv("GIT_DIR", raising=False)
    source = tmp_path / "publication.py"
    source.write_text("first\n")
    for arguments in (
        ("init", "--quiet"),
        ("add", "."),
        ("-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message", "First"),
    ):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    monkeypatch.setattr(publication, "__file__", str(source))
    return tmp_path


def test_repository_is_made() -> None:
    """A repository that is not there yet is made, with the folders above it."""
    with folder_of_an_ordinary_user() as folder:
        check_writable(folder / "new" / "repository", "quick")

        assert (folder / "new" / "repository").is_dir()


def test_repository_that_cannot_be_written() -> None:
    """A folder without write permission is refused at the start, with its path."""
    with folder_of_an_ordinary_user() as folder:
        folder.chmod(0o500)

        with pytest.raises(PermissionError) as caught:
            check_writable(folder, "quick")
        assert caught.value.filename == str(folder)


def test_model_folder_that_cannot_be_written() -> None:
    """The folder of the model, where there is one, is tried as well: the version goes into it."""
    with folder_of_an_ordinary_user() as folder:
        (folder / "quick").mkdir(mode=0o500)

        with pytest.raises(PermissionError) as caught:
            check_writable(folder, "quick")
        assert caught.value.filename == str(folder / "quick")


def test_model_folder_that_is_a_file(tmp_path: Path) -> None:
    """A file in the place of the model's folder is refused at the start, with its path."""
    (tmp_path / "quick").touch()

    with pytest.raises(NotADirectoryError) as caught:
        check_writable(tmp_path, "quick")

    assert caught.value.filename == str(tmp_path / "quick")


def test_repository_that_is_a_file(tmp_path: Path) -> None:
    """A file in the place of the repository is refused at the start, with its path."""
    path = tmp_path / "models"
    path.touch()

    with pytest.raises(FileExistsError) as caught:
        check_writable(path, "quick")

    assert caught.value.filename == str(path)


@pytest.mark.usefixtures("checkout")
def test_revision_is_the_commit() -> None:
    """The revision of an unchanged checkout is its commit."""
    assert re.fullmatch(r"[0-9a-f]{40}", code_revision())


def test_revision_of_changed_code(checkout: Path) -> None:
    """Changes that are not committed show as a plus; files that git does not know do not count."""
    (checkout / "notes.txt").touch()
    committed = code_revision()
    (checkout / "publication.py").write_text("second\n")

    assert code_revision() == f"{committed}+"


def test_revision_outside_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that was installed has no revision, and that is no error."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(publication, "__file__", str(tmp_path / "publication.py"))

    assert code_revision() == "unknown"


def no_git(*_: object, **__: object) -> None:
    raise FileNotFoundError("git")


def slow_git(*_: object, **__: object) -> None:
    raise subprocess.TimeoutExpired("git", timeout=10)


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("git", [no_git, slow_git])
def test_revision_without_git(monkeypatch: pytest.MonkeyPatch, git: Callable[..., None]) -> None:
    """A machine without git, or with one that hangs, trains all the same."""
    monkeypatch.setattr(subprocess, "run", git)

    assert code_revision() == "unknown"
