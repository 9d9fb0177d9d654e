"""The client for code without an event loop: the same methods, which wait. Adds threads, and nothing else."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from client.channel import DEFAULT_MAX_ATTEMPTS
from client.client import ClassifierClient
from client.connection import DEFAULT_TARGET, DEFAULT_TIMEOUT_SECONDS
from client.credentials import NO_CREDENTIALS, Credentials
from client.errors import ClientError
from client.pipeline import Classified, classify_files
from client.requests import Image
from client.results import Answer, ModelDetails, ModelSummary
from client.sources import PathName

_T = TypeVar("_T")


class BlockingClassifierClient:
    """A `ClassifierClient` whose methods wait for the answer.

        with BlockingClassifierClient("127.0.0.1:50051") as client:
            answer = client.predict([Path("cat.jpg").read_bytes()], top_k=3)

    May be used from many threads at once. Its event loop runs in a thread of its own.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        credentials: Credentials = NO_CREDENTIALS,
    ) -> None:
        """Take the arguments of `ClassifierClient`."""
        self._client = ClassifierClient(
            target, timeout_seconds=timeout_seconds, max_attempts=max_attempts, credentials=credentials
        )

    def __enter__(self) -> Self:
        """Start the event loop and open the connection."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cifarserve-client", daemon=True)
        self._thread.start()
        self._wait_for(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection and stop the event loop."""
        self._wait_for(self._client.__aexit__(kind, error, traceback))
        self._wait_for(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def predict(
        self,
        images: Sequence[Image],
        *,
        model: str = "",
        version: int = 0,
        top_k: int = 1,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """See `ClassifierClient.predict`."""
        return self._wait_for(
            self._client.predict(images, model=model, version=version, top_k=top_k, timeout_seconds=timeout_seconds)
        )

    def predict_many(
        self,
        files: PathName | Iterable[PathName],
        *,
        model: str = "",
        version: int = 0,
        top_k: int = 1,
        show_progress: bool = False,
    ) -> Iterator[Classified]:
        """See `ClassifierClient.predict_many`; `files` is read in another thread."""
        predict = functools.partial(self._client.predict, model=model, version=version, top_k=top_k)
        batches = classify_files(files, predict, show_progress=show_progress)
        try:
            while (batch := self._wait_for(_next(batches))) is not None:
                yield from batch
        finally:
            self._wait_for(batches.aclose())

    def predict_stream(
        self, requests: Iterable[Sequence[Image]], *, model: str = "", version: int = 0, top_k: int = 1
    ) -> Iterator[tuple[int, Answer | ClientError]]:
        """See `ClassifierClient.predict_stream`; `requests` is read in another thread."""
        answers = self._client.predict_stream(_from_thread(requests), model=model, version=version, top_k=top_k)
        try:
            while (answer := self._wait_for(_next(answers))) is not None:
                yield answer
        finally:
            self._wait_for(answers.aclose())

    def list_models(self) -> tuple[ModelSummary, ...]:
        """See `ClassifierClient.list_models`."""
        return self._wait_for(self._client.list_models())

    def get_model(self, name: str = "", version: int = 0) -> ModelDetails:
        """See `ClassifierClient.get_model`."""
        return self._wait_for(self._client.get_model(name, version))

    def health(self, service: str = "") -> bool:
        """See `ClassifierClient.health`."""
        return self._wait_for(self._client.health(service))

    def _wait_for(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # interrupted: nobody waits any more; otherwise it is done and this does nothing


async def _next(answers: AsyncIterator[_T]) -> _T | None:
    return await anext(answers, None)


async def _from_thread(values: Iterable[_T]) -> AsyncIterator[_T]:
    """Yield `values` without holding up the event loop while they are made."""
    iterator = iter(values)
    while (value := await asyncio.to_thread(next, iterator, None)) is not None:
        yield value
