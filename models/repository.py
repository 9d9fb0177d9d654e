"""A repository is a folder: `<repository>/<model>/<version>/`. Lists it; reads no weights and no cards."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.desired import DesiredState, read_desired
from models.errors import ModelError, RepositoryMissing, UnknownModel, UnknownVersion
from models.verification import CARD_FILE, WEIGHTS_FILE

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")

Fingerprint = tuple[tuple[int, int, int] | None, ...]
"""Size, time and number of a version's two files, None for one that is absent: when it differs, a file has changed."""


@dataclass(frozen=True)
class ModelFolder:
    """What one model's folder held when it was looked at.

    Attributes:
        versions: the versions, oldest first, each with the fingerprint of its files.
        desired: what operators want served of it.
        fault: why the folder could not be read; empty when it was.
    """

    versions: Mapping[int, Fingerprint] = field(default_factory=dict)
    desired: DesiredState = field(default_factory=DesiredState)
    fault: str = ""


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
        """Return the names of the models that have at least one version, sorted; not those that cannot be read."""
        return tuple(name for name, folder in self.scan().items() if folder.versions)

    def scan(self) -> dict[str, ModelFolder]:
        """Return what is known of every model, by name, sorted: those with a version, and those that cannot be read.

        Raises:
            RepositoryMissing: the repository itself cannot be read.
        """
        found = {name: self.look(name) for name in sorted(filter(is_model_name, _entries(self.path)))}
        return {name: folder for name, folder in found.items() if folder.versions or folder.fault}

    def look(self, model: str) -> ModelFolder:
        """Return what one model's folder holds; nothing when it is not there."""
        folder = self.path / model
        found: dict[int, Fingerprint] = {}
        try:
            found.update((version, _fingerprint(folder / str(version))) for version in versions(folder))
            return ModelFolder(found, read_desired(folder))
        except ModelError as exc:
            return ModelFolder(found, fault=str(exc))

    def without_path(self, message: str) -> str:
        """Return an error's message for those who need not know where the repository lies."""
        return message.replace(f"{self.path}/", "")

    def versions(self, model: str) -> tuple[int, ...]:
        """Return the versions of `model`, oldest first.

        Raises:
            UnknownModel: there is no such model.
        """
        found = versions(self.path / model) if is_model_name(model) else ()
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


def is_model_name(name: str) -> bool:
    """Return whether a model may be called so: letters, digits, dots, dashes and underscores, 64 at most."""
    return _MODEL_NAME.fullmatch(name) is not None


def _entries(folder: Path, *, missing_ok: bool = False) -> tuple[str, ...]:
    try:
        return tuple(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as exc:
        if missing_ok and isinstance(exc, FileNotFoundError | NotADirectoryError):
            return ()
        raise RepositoryMissing(f"repository {folder}: {exc.strerror}; expected a folder of models") from exc


def _fingerprint(folder: Path) -> Fingerprint:
    return tuple(_stat(folder / name) for name in (WEIGHTS_FILE, CARD_FILE))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
