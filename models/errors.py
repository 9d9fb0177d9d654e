"""Everything that can be wrong with a model, a version or a repository.

ModelError
├── UnknownArchitecture   no network of that name is registered
├── RepositoryMissing     the folder is not there or cannot be read
├── RepositoryDamaged     a file of a model, beside its versions, is not what it should be
├── UnknownModel          the repository has no such model
├── UnknownVersion        the model has no such version
└── CheckpointDamaged     the version's files are not what its card says
"""

from enum import StrEnum


class Fault(StrEnum):
    """What is wrong with a version, in a word: for counting."""

    UNREADABLE = "unreadable"
    CARD = "card"
    DIGEST = "digest"
    FORMAT = "format"
    ARCHITECTURE = "architecture"
    NOT_FINITE = "not_finite"


class ModelError(Exception):
    """Base of all errors of this package; the message is one line for a person.

    Attributes:
        fault: the kind of fault; `UNREADABLE` unless something more is known.
    """

    fault = Fault.UNREADABLE


class UnknownArchitecture(ModelError):
    """No network of that name is registered."""

    fault = Fault.ARCHITECTURE


class RepositoryMissing(ModelError):
    """The repository folder is not there or cannot be read."""


class RepositoryDamaged(ModelError):
    """A file of a model, beside its versions, is not what it should be."""


class UnknownModel(ModelError):
    """The repository has no model of that name."""


class UnknownVersion(ModelError):
    """The model has no such version."""


class CheckpointDamaged(ModelError):
    """A version's files are missing, unreadable, or not what its card says."""

    def __init__(self, message: str, *, fault: Fault = Fault.UNREADABLE) -> None:
        super().__init__(message)
        self.fault = fault
