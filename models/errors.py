"""Everything that can be wrong with a model, a version or a repository.

ModelError
├── UnknownArchitecture   no network of that name is registered
├── RepositoryMissing     the folder is not there or cannot be read
├── UnknownModel          the repository has no such model
├── UnknownVersion        the model has no such version
└── CheckpointDamaged     the version's files are not what its card says
"""


class ModelError(Exception):
    """Base of all errors of this package; the message is one line for a person."""


class UnknownArchitecture(ModelError):
    """No network of that name is registered."""


class RepositoryMissing(ModelError):
    """The repository folder is not there or cannot be read."""


class UnknownModel(ModelError):
    """The repository has no model of that name."""


class UnknownVersion(ModelError):
    """The model has no such version."""


class CheckpointDamaged(ModelError):
    """A version's files are missing, unreadable, or not what its card says."""
