"""Everything that can go wrong with a request or a start. `server.interceptor` maps requests' errors to statuses.

ServingError               a request failed
├── InvalidArgument        the request asks for something that cannot be
├── InvalidImage           a picture cannot be read; only that picture fails
├── ModelNotFound          no such model or version is served
├── Overloaded             the queue is full; says when to come back
├── TooManyRequests        this client sends more than it may; says when to come back
├── Draining               the server is stopping
├── NotReady               the model is not loaded yet
├── Unauthenticated        the caller shows no token, or one that nobody knows
├── AccessDenied           the caller may not do this
├── NotPossible            the state of the server or of the repository forbids it
├── DeadlineExceeded       the deadline passed before the work began
├── DeviceOutOfMemory      a batch did not fit into the device's memory, not even a picture alone
├── EngineLost             the engine's process ended before it answered
└── EngineFailed           the forward pass failed
StartError                 the server cannot start; ends the process with one line
EngineDied                 the server cannot go on; ends the process with one line
WorkerDied                 one of several server processes ended by itself; ends the others, with one line
"""


class ServingError(Exception):
    """Base of all errors of a request; the message is one line that the caller may see."""


class InvalidArgument(ServingError):
    """The request asks for something that cannot be."""


class InvalidImage(ServingError):
    """A picture cannot be read; only that picture fails."""


class ModelNotFound(ServingError):
    """No such model or version is served."""


class Overloaded(ServingError):
    """The queue is full, in items or in bytes.

    Attributes:
        retry_after_seconds: when the queue is expected to have room.
    """

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooManyRequests(ServingError):
    """This client sends more than it may.

    Attributes:
        retry_after_seconds: when its next request is welcome.
    """

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Draining(ServingError):
    """The server is stopping and takes no new work."""


class NotReady(ServingError):
    """The model is not loaded yet."""


class Unauthenticated(ServingError):
    """The caller shows no token, or one that nobody knows."""


class AccessDenied(ServingError):
    """The caller may not do this."""


class NotPossible(ServingError):
    """The state of the server or of the repository forbids it; the message says what would have to change."""


class DeadlineExceeded(ServingError):
    """The caller's deadline passed before the work began; it was not done."""


class EngineFailed(ServingError):
    """The forward pass failed; the log says why, the caller does not learn it."""


class DeviceOutOfMemory(ServingError):
    """A batch did not fit into the device's memory; it is tried again in halves until a picture is alone."""


class EngineLost(ServingError):
    """The engine's process ended before it answered; nobody's fault, and worth another try."""


class StartError(Exception):
    """The server cannot start; the message is one line that says what to do."""


class EngineDied(Exception):
    """An engine cannot go on; the server ends too, to be started afresh. The message says why."""


class WorkerDied(Exception):
    """One of several server processes ended by itself; all end, to be started afresh. The message says why."""
