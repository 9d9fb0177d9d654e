"""A repository is a folder: `<repository>/<model>/<version>/`. Lists it; reads no weights and no cards."""

import re
from pathlib import Path

from models.errors import RepositoryMissing, UnknownModel, UnknownVersion

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Repository:
    """The models and versions in one folder, read afresh at every call.

    Names and numbers that are not well formed are not versions: hidden folders of a publication in
    progress, files, and anything that would lead out of the folder are never returned.
    """

    def __init__(self, path: Path) -> None:
        """Raises RepositoryMissing when `path` is not a folder that can be read."""
        self.path = path
        _entries(path)

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that have at least one version, sorted."""
        return tuple(sorted(name for name in _entries(self.path) if _is_name(name) and versions(self.path / name)))

    def versions(self, model: str) -> tuple[int, ...]:
        """Return the versions of `model`, oldest first.

        Raises:
            UnknownModel: there is no such model.
        """
        found = versions(self.path / model) if _is_name(model) else ()
        if not found:
            raise UnknownModel(f"unknown model {model!r}: expected one of {', '.join(self.models()) or 'none'}")
        return found

    def folder(self, model: str, version: int = 0) -> Path:
        """Return the folder of a version; 0 means the newest.

        Raises:
            UnknownModel: there is no such model.
            UnknownVersion: the model has no such version.
        """
        available = self.versions(model)
        if version not in (0, *available):
            raise UnknownVersion(
                f"unknown version {version} of model {model!r}: expected one of {', '.join(map(str, available))}"
            )
        return self.path / model / str(version or available[-1])


def versions(folder: Path) -> tuple[int, ...]:
    """Return the version numbers among the sub-folders of a model's folder, ascending."""
    return tuple(sorted(int(name) for name in _entries(folder, missing_ok=True) if _VERSION.fullmatch(name)))


def next_version(folder: Path) -> int:
    """Return the number after the newest version in a model's folder, 1 for the first.

    A number is taken by a file too: it is no version, but a folder cannot be put in its place.
    """
    taken = [int(entry.name) for entry in folder.glob("*") if _VERSION.fullmatch(entry.name)]
    return max(taken, default=0) + 1


def _is_name(name: str) -> bool:
    return _MODEL_NAME.fullmatch(name) is not None


def _entries(folder: Path, *, missing_ok: bool = False) -> tuple[str, ...]:
    try:
        return tuple(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as exc:
        if missing_ok and isinstance(exc, FileNotFoundError | NotADirectoryError):
            return ()
        raise RepositoryMissing(f"repository {folder}: {exc.strerror}; expected a folder of models") from exc
