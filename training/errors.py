"""What can stop a training run before or while it works.

TrainingError
├── DataMissing      the data set is not where it was said to be
├── DeviceMissing    the device that was asked for is not there
├── UnevenBatch      a batch cannot be shared equally among the processes
├── StateMismatch    the saved state is missing, unreadable, another run's, or in the way
├── WeightsRefused   a file to import is not a state_dict that fits the architecture
├── Diverged         the loss became infinite or not a number
└── Interrupted      a person or an orchestrator asked the run to stop
"""


class TrainingError(Exception):
    """Base of all errors of this package; the message is one line for a person."""


class DataMissing(TrainingError):
    """The data set is missing or its files are not the published ones."""


class DeviceMissing(TrainingError):
    """The device that was asked for is not on this machine."""


class UnevenBatch(TrainingError):
    """A batch cannot be shared equally among the processes."""


class StateMismatch(TrainingError):
    """The saved state is missing, unreadable, another run's, or in the way."""


class WeightsRefused(TrainingError):
    """A file to import is not a plain state_dict that fits the architecture."""


class Diverged(TrainingError):
    """The loss became infinite or not a number."""


class Interrupted(TrainingError):
    """SIGINT or SIGTERM came before the run was done."""
