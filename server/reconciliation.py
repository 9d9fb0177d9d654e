"""Desired and actual state of one model in, the next step out. Pure: reads no disk and loads nothing.

Desired is what lies in the repository: the versions, and what operators asked for. Actual is what this
process serves. Every server process of a repository takes the same steps from the same state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from models.repository import Fingerprint, ModelFolder


class ModelControl(StrEnum):
    """What the server follows after its start.

    `POLL`: the repository; new versions and models are served, deleted ones are not. `EXPLICIT`: requests
    of operators alone. `NONE`: nothing; what was served at the start is served until the end.
    """

    POLL = "poll"
    EXPLICIT = "explicit"
    NONE = "none"


class Refusal(NamedTuple):
    """Why a version was not taken, and what was tried: other files or another request are tried again.

    `reason` is one line for a person.
    """

    reason: str
    fingerprint: Fingerprint
    generation: int


@dataclass(frozen=True)
class Actual:
    """What this process serves of a model.

    Attributes:
        version: the version that answers; 0: none.
        generation: of the desired state when a version was last tried.
        refusals: the versions that were tried and refused.
    """

    version: int = 0
    generation: int = 0
    refusals: Mapping[int, Refusal] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """Load this version, and let it answer in the place of the one that does."""

    version: int


@dataclass(frozen=True)
class Unload:
    """Let no version answer any more."""


def next_step(folder: ModelFolder, actual: Actual, control: ModelControl) -> Load | Unload | None:
    """Return what to do next for a model; None when all is as it should be.

    Args:
        folder: what the repository holds of it; no versions when it was deleted.
        actual: what is being served.
        control: what the server follows.
    """
    if folder.fault:  # what is wanted cannot be known: what is served goes on
        return None
    wanted = _wanted(folder, actual, control)
    if not wanted:
        return Unload() if actual.version else None
    again = folder.desired.generation != actual.generation and wanted in folder.versions
    return Load(wanted) if wanted != actual.version or again else None


def target(folder: ModelFolder, control: ModelControl) -> int:
    """Return the version that should answer if it is sound; 0: none should."""
    desired = folder.desired
    if desired.unloaded:
        return 0
    if control is ModelControl.EXPLICIT:
        return desired.loaded_version and (desired.pinned_version or desired.loaded_version)
    return desired.pinned_version or max(folder.versions, default=0)


def standing_refusals(folder: ModelFolder, refusals: Mapping[int, Refusal]) -> dict[int, Refusal]:
    """Return the refusals that still hold: the files are those that were tried, and nobody asked to try again."""
    return {
        version: refusal
        for version, refusal in refusals.items()
        if (refusal.fingerprint, refusal.generation) == (folder.versions.get(version), folder.desired.generation)
    }


def _wanted(folder: ModelFolder, actual: Actual, control: ModelControl) -> int:
    """Return the version to serve next, which is the one that is served when the target cannot be; 0: none."""
    if not folder.versions and not folder.desired.unloaded:
        return 0 if control is ModelControl.POLL else actual.version
    version = target(folder, control)
    refused = standing_refusals(folder, actual.refusals)
    if not version or (version in folder.versions and version not in refused):
        return version
    if folder.desired.pinned_version or control is ModelControl.EXPLICIT:
        return actual.version  # exactly that version was asked for: no other takes its place
    sound = (number for number in folder.versions if number not in refused or number == actual.version)
    return max(sound, default=actual.version)
