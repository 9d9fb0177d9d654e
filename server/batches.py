"""What is said of batches: why one left, how its pass went, what became of a caller's items. Values only."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

from server.errors import ServingError

Result = TypeVar("Result")

_NONE_FAILED: Mapping[int, ServingError] = MappingProxyType({})


class DispatchReason(StrEnum):
    """Why a batch left when it did."""

    FULL = "full"
    IDLE = "idle"
    DELAY = "delay"
    DEADLINE = "deadline"
    DRAIN = "drain"
    SPLIT = "split"  # a part of a batch that failed


class PassFailure(StrEnum):
    """Why a forward pass gave no results."""

    NONE = ""
    ERROR = "error"
    OUT_OF_MEMORY = "out_of_memory"
    LOST = "lost"


class Answer(NamedTuple, Generic[Result]):
    """What became of the items of one `submit`, and where the time went.

    Attributes:
        results: of the items that were computed, in their order.
        queue_seconds: from their arrival to the forward pass.
        compute_seconds: of the forward pass.
        batch_size: how many items it had.
        failures: the errors of those that the model failed on, by position among the items; mostly none.
    """

    results: Sequence[Result]
    queue_seconds: float
    compute_seconds: float
    batch_size: int
    failures: Mapping[int, ServingError] = _NONE_FAILED


class BatchRecord(NamedTuple):
    """What an observer is told of each forward pass: its size, reason, seconds, and whether it failed."""

    size: int
    reason: DispatchReason
    compute_seconds: float
    queue_seconds: tuple[float, ...]
    failure: PassFailure = PassFailure.NONE
