"""What operators want served of one model: `<repository>/<model>/desired.json`, beside the versions.

It lies on the disk, so that it survives a restart and every server process follows the same state.
Knows nothing of what is being served.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.durable import replace_durably
from models.errors import RepositoryDamaged

DESIRED_FILE = "desired.json"

_Number = Annotated[int, Field(ge=0)]


class DesiredState(BaseModel):
    """What is wanted of one model; the defaults are those of a model that nobody said anything about.

    Attributes:
        pinned_version: exactly this version or none; 0: not pinned.
        loaded_version: the newest version when the model was last loaded on request; 0: it was not.
        unloaded: whether it was unloaded on request since.
        generation: counts the requests to load everything afresh.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pinned_version: _Number = 0
    loaded_version: _Number = 0
    unloaded: bool = False
    generation: _Number = 0

    def loaded(self, newest: int) -> Self:
        """Return the state in which the model is wanted; what was refused is tried again when it was unloaded."""
        return self.model_copy(update={"loaded_version": newest, "unloaded": False})

    def without(self) -> Self:
        """Return the state in which nothing of the model is wanted; a pin stays."""
        return self.model_copy(update={"loaded_version": 0, "unloaded": True})

    def pinned(self, version: int) -> Self:
        """Return the state in which exactly this version is wanted; 0: the model is not pinned any more."""
        return self.model_copy(update={"pinned_version": version})

    def afresh(self) -> Self:
        """Return the state in which what is served is loaded again, and what was refused is tried again."""
        return self.model_copy(update={"generation": self.generation + 1})


def read_desired(folder: Path) -> DesiredState:
    """Return what is wanted of the model in `folder`; the defaults when there is no file.

    Raises:
        RepositoryDamaged: the file cannot be read or is not valid: what it said must not be guessed.
    """
    path = folder / DESIRED_FILE
    try:
        return DesiredState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return DesiredState()
    except OSError as exc:
        raise RepositoryDamaged(f"{path}: {exc.strerror or exc}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RepositoryDamaged(f"{path}: {where}: {first['msg']}") from exc


def change_desired(folder: Path, change: Callable[[DesiredState], DesiredState]) -> DesiredState:
    """Change what is wanted of the model in `folder`, and return it; of several processes one at a time does.

    Raises:
        RepositoryDamaged: the file that is there is not valid.
        OSError: the folder cannot be written.
    """
    with _locked(folder):
        before = read_desired(folder)
        after = change(before)
        if after != before:
            replace_durably(folder / DESIRED_FILE, after.model_dump_json(indent=2).encode() + b"\n")
    return after


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # given up when the descriptor is closed
        yield
    finally:
        os.close(descriptor)
