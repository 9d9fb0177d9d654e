"""The repository in this protocol's words: which versions there are, and which of them answer. Pure."""

from collections.abc import Iterable, Iterator

from cifarserve.inference import open_inference_pb2 as pb
from server.following import ModelStatus
from server.open_inference.entries import Entry, entries_of

_READY = "READY"
_LOADING = "LOADING"
_UNAVAILABLE = "UNAVAILABLE"


def to_index(statuses: Iterable[ModelStatus], *, only_ready: bool) -> pb.RepositoryIndexResponse:
    """Return every version of every entry, or those that answer."""
    return pb.RepositoryIndexResponse(
        models=[
            version
            for status in statuses
            for entry in entries_of(status.name)
            for version in _versions(entry, status)
            if version.state == _READY or not only_ready
        ]
    )


def _versions(entry: Entry, status: ModelStatus) -> Iterator[pb.RepositoryIndexResponse.ModelIndex]:
    """Yield the versions of a model, ascending; one without a number when it has none."""
    refused = {version.version: version.reason for version in status.refused}
    serving = status.served.card.version if status.served else 0
    numbers = sorted({*status.versions, *filter(None, (serving, status.loading_version))})
    for number in numbers or [0]:
        state = _READY if number and number == serving else _UNAVAILABLE
        if number and number == status.loading_version and state != _READY:
            state = _LOADING
        yield pb.RepositoryIndexResponse.ModelIndex(
            name=entry.name_of(status.name),
            version=str(number or ""),
            state=state,
            reason=refused.get(number) or _reason(status, serving) if state == _UNAVAILABLE else "",
        )


def _reason(status: ModelStatus, serving: int) -> str:
    return f"version {serving} is served" if serving else status.reason
