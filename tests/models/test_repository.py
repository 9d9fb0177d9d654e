from pathlib import Path

import pytest

from models.desired import DESIRED_FILE, DesiredState, change_desired
from models.errors import RepositoryMissing, UnknownModel, UnknownVersion
from models.repository import Repository, next_version, versions
from models.verification import WEIGHTS_FILE
from tests.models.ordinary_user import folder_of_an_ordinary_user


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two models: `whitened` with versions 1, 2 and 10, `quick` with version 3."""
    for version in ("whitened/1", "whitened/2", "whitened/10", "quick/3"):
        (tmp_path / version).mkdir(parents=True)
    return Repository(tmp_path)


def test_models_and_versions_are_listed_in_order(repository: Repository) -> None:
    """Models come by name, versions by number: 10 after 2."""
    assert repository.models() == ("quick", "whitened")
    assert repository.versions("whitened") == (1, 2, 10)
    assert repository.versions("quick") == (3,)


def test_newest_version_is_the_default(repository: Repository) -> None:
    """Version 0 means the newest; any other number means itself."""
    assert repository.folder("whitened") == repository.path / "whitened" / "10"
    assert repository.folder("whitened", 0) == repository.path / "whitened" / "10"
    assert repository.folder("whitened", 2) == repository.path / "whitened" / "2"


def test_new_version_is_seen_at_once(repository: Repository) -> None:
    """The folder is read afresh at every call."""
    (repository.path / "whitened" / "11").mkdir()

    assert repository.folder("whitened") == repository.path / "whitened" / "11"


@pytest.mark.parametrize(
    "name", [".publishing-x1y2", "0", "01", "-1", "+4", "a", "1.5", "1e1", "٣", " 4", "4 ", "9" * 10]
)
def test_folders_that_are_no_numbers_are_no_versions(repository: Repository, name: str) -> None:
    """A version is a positive integer written plainly; everything else in the folder is ignored."""
    (repository.path / "quick" / name).mkdir()

    assert repository.versions("quick") == (3,)


def test_files_are_no_versions(repository: Repository) -> None:
    """A file with a number for a name is ignored."""
    (repository.path / "quick" / "4").touch()

    assert repository.versions("quick") == (3,)


@pytest.mark.parametrize("name", [".hidden", "-flag", "_private", "with space", "ünicode", "a" * 65])
def test_folders_with_odd_names_are_no_models(repository: Repository, name: str) -> None:
    """A model's name is letters, digits, dots, dashes and underscores, 64 at most; other folders are ignored."""
    (repository.path / name / "1").mkdir(parents=True)

    assert repository.models() == ("quick", "whitened")
    with pytest.raises(UnknownModel):
        repository.versions(name)


def test_files_and_empty_folders_are_no_models(repository: Repository) -> None:
    """A model is there when it has a version, not before."""
    (repository.path / "notes.txt").touch()
    (repository.path / "started").mkdir()

    assert repository.models() == ("quick", "whitened")


@pytest.mark.parametrize(
    "name", ["unknown", "", ".", "..", "../quick", "quick/3", "/etc", "quick\n", "quick\0", "WHITENED"]
)
def test_unknown_model(repository: Repository, name: str) -> None:
    """A name that is not listed, or that would lead out of the folder, is an unknown model."""
    with pytest.raises(UnknownModel) as caught:
        repository.folder(name)

    assert str(caught.value) == f"unknown model {name!r}: expected one of quick, whitened"


def test_unknown_model_in_an_empty_repository(tmp_path: Path) -> None:
    """The message says so when there is nothing to choose from."""
    with pytest.raises(UnknownModel, match="unknown model 'quick': expected one of none"):
        Repository(tmp_path).folder("quick")


@pytest.mark.parametrize("version", [3, -1, 11])
def test_unknown_version(repository: Repository, version: int) -> None:
    """The message names the versions that there are."""
    with pytest.raises(UnknownVersion) as caught:
        repository.folder("whitened", version)

    assert str(caught.value) == f"unknown version {version} of model 'whitened': expected one of 1, 2, 10"


def test_missing_repository(tmp_path: Path) -> None:
    """A folder that is not there is refused when the repository is opened, with its path."""
    with pytest.raises(RepositoryMissing, match=r"repository .*/nowhere: No such file or directory"):
        Repository(tmp_path / "nowhere")


def test_repository_that_is_a_file(tmp_path: Path) -> None:
    """A file is no repository."""
    (tmp_path / "file").touch()

    with pytest.raises(RepositoryMissing, match="Not a directory"):
        Repository(tmp_path / "file")


def test_unreadable_repository() -> None:
    """A folder that this user may not read is refused, with the reason."""
    with folder_of_an_ordinary_user() as folder:
        folder.chmod(0)

        with pytest.raises(RepositoryMissing, match="Permission denied"):
            Repository(folder)


@pytest.mark.parametrize("mode", [0o000, 0o600], ids=["closed", "without search permission"])
def test_repository_that_becomes_unreadable(mode: int) -> None:
    """Permissions that change later are reported the same way, whatever is asked for."""
    with folder_of_an_ordinary_user() as folder:
        (folder / "quick" / "1").mkdir(parents=True)
        repository = Repository(folder)
        folder.chmod(mode)

        for ask in (repository.models, lambda: repository.versions("quick"), lambda: repository.folder("quick")):
            with pytest.raises(RepositoryMissing, match="Permission denied"):
                ask()


def test_repository_that_goes_away(repository: Repository) -> None:
    """A folder that vanishes while it is used is reported as missing, not as a model that is unknown."""
    repository.path.rename(repository.path.with_name("moved"))

    with pytest.raises(RepositoryMissing):
        repository.models()


def test_one_unreadable_model_hides_no_other() -> None:
    """A model's folder that may not be read is reported with its reason, and the others are found."""
    with folder_of_an_ordinary_user() as folder:
        for model in ("closed", "quick"):
            (folder / model / "1").mkdir(parents=True)
        (folder / "closed").chmod(0)

        repository = Repository(folder)

        assert repository.models() == ("quick",)
        assert {name: found.fault for name, found in repository.scan().items()} == {
            "closed": f"repository {folder}/closed: Permission denied; expected a folder of models",
            "quick": "",
        }


def test_scan_tells_versions_and_what_is_wanted(repository: Repository) -> None:
    """A look at the repository has every model's versions in order, and what operators want of it."""
    change_desired(repository.path / "whitened", lambda desired: desired.pinned(2))

    found = repository.scan()

    assert {name: list(folder.versions) for name, folder in found.items()} == {"quick": [3], "whitened": [1, 2, 10]}
    assert found["whitened"].desired == DesiredState(pinned_version=2)


def test_scan_tells_versions_also_when_what_is_wanted_is_unreadable(repository: Repository) -> None:
    """A file of wishes that is not valid is the model's fault, in both senses, and its versions are known."""
    (repository.path / "quick" / DESIRED_FILE).write_text("?")

    found = repository.scan()["quick"]

    assert list(found.versions) == [3]
    assert found.fault.startswith(f"{repository.path}/quick/{DESIRED_FILE}: ")
    assert repository.without_path(found.fault).startswith(f"quick/{DESIRED_FILE}: ")


def test_changed_files_have_another_fingerprint(repository: Repository) -> None:
    """A file that comes, grows or is replaced changes the fingerprint of its version, and of no other."""
    weights = repository.path / "whitened" / "2" / WEIGHTS_FILE
    seen = [repository.look("whitened").versions]
    for content in (b"", b"half", b"whole"):
        weights.write_bytes(content)
        seen.append(repository.look("whitened").versions)

    assert len({versions[2] for versions in seen}) == 4
    assert len({versions[1] for versions in seen}) == 1


def test_look_at_a_model_that_is_not_there(repository: Repository) -> None:
    """A folder that was deleted has no versions and no fault."""
    found = repository.look("nothing")

    assert (dict(found.versions), found.fault) == ({}, "")


def test_next_version(repository: Repository) -> None:
    """The next number follows the newest version; gaps are not filled; the first is 1."""
    assert next_version(repository.path / "whitened") == 11
    assert next_version(repository.path / "quick") == 4
    assert next_version(repository.path / "new") == 1


def test_next_version_is_free(repository: Repository) -> None:
    """A file in the place of a number is no version, but its number is taken."""
    (repository.path / "quick" / "4").touch()

    assert next_version(repository.path / "quick") == 5


def test_versions_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A model without a folder has no versions."""
    assert versions(tmp_path / "nothing") == ()
