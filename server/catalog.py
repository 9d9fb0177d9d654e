"""The models that this server serves: finds them in the repository, starts an engine and a queue for each.

Knows no protocol; the doors ask it for a model by name.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

import structlog

from models import DEFAULT_MODEL
from models.card import Card
from models.errors import ModelError
from models.preprocessing import IMAGE_BYTES
from models.repository import Repository
from models.verification import read_card, read_weights
from server.batcher import Batcher
from server.engines import Engine, Pixels, Scores
from server.errors import ModelNotFound, NotReady, StartError
from server.metrics import Metrics

# What every engine computes while it warms up; when a batch fails it tells whether the engine is at fault.
_GREY: Pixels = bytes([127]) * IMAGE_BYTES

_log = structlog.get_logger(__name__)


class ModelState(StrEnum):
    """Whether a model answers."""

    LOADING = "loading"
    READY = "ready"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class ServedModel:
    """One version that answers: its card, its engine, its queue."""

    card: Card
    engine: Engine
    batcher: Batcher[Pixels, Scores]


@dataclass(frozen=True)
class ModelStatus:
    """What is known of one model, ready or not."""

    name: str
    versions: tuple[int, ...]
    state: ModelState
    is_default: bool
    reason: str = ""
    served: ServedModel | None = None


@dataclass(frozen=True)
class BatchLimits:
    """How batches are formed; see `Batcher`."""

    max_batch_size: int
    max_queue_delay_seconds: float
    max_queue_items: int
    max_queue_bytes: int = 2**63
    max_stall_seconds: float = 60.0
    max_batches_under_way: int = 1
    lanes: int = 1


class Catalog:
    """All models of a repository, the newest version of each.

    Making it reads cards and digests only, which is quick; entering it loads and warms up every
    model. Leaving it drains the queues, then frees the engines.
    """

    def __init__(
        self,
        repository: Path,
        *,
        default_model: str,
        make_engine: Callable[[Path], Engine],
        limits: BatchLimits,
        metrics: Metrics,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Find the models.

        Args:
            repository: the folder of models.
            default_model: who answers when no name is given; empty: the shipped default or the only one.
            make_engine: returns an engine for a version's folder.
            limits: for every model's queue.
            metrics: is told of batches, loads and queues.
            on_failure: is told why the server cannot go on, when an engine is broken or stuck.

        Raises:
            StartError: there is no repository, no model, no such default, or a version is damaged.
        """
        self._make_engine = make_engine
        self._limits = limits
        self._metrics = metrics
        self._on_failure = on_failure
        self._stack = contextlib.AsyncExitStack()
        with _as_start_error():
            found = Repository(repository)
            names = found.models()
            default = _choose_default(names, default_model, repository)
            self._folders = {name: found.folder(name) for name in names}
            self._cards = {name: _verified_card(folder) for name, folder in self._folders.items()}
            self._statuses = {
                name: ModelStatus(name, found.versions(name), ModelState.LOADING, is_default=name == default)
                for name in names
            }
        self._default = default

    async def __aenter__(self) -> Self:
        """Load and warm up every model, side by side; each answers as soon as it is ready.

        Raises:
            StartError: one cannot be loaded.
        """
        async with contextlib.AsyncExitStack() as stack:
            starting = [self._start(name, folder, stack) for name, folder in self._folders.items()]
            # All are awaited, so that none is still starting when the others are taken down.
            for outcome in await asyncio.gather(*starting, return_exceptions=True):
                if outcome is not None:
                    with _as_start_error():
                        raise outcome
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def get(self, name: str = "", version: int = 0) -> ServedModel:
        """Return the model that answers.

        Args:
            name: empty means the default model.
            version: 0 means the one being served.

        Raises:
            ModelNotFound: no such model, or that version is not being served.
            NotReady: the model is still being loaded.
        """
        status = self._statuses.get(name or self._default)
        if status is None:
            raise ModelNotFound(f"unknown model {name!r}: expected one of {', '.join(self._statuses)}")
        if status.served is None:
            raise NotReady(f"model {status.name!r} is {status.state}; retry soon")
        if version not in (0, status.served.card.version):
            raise ModelNotFound(
                f"version {version} of model {status.name!r} is not served:"
                f" expected {status.served.card.version}, or 0 for whichever is"
            )
        return status.served

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Return all models, sorted by name."""
        return tuple(self._statuses.values())

    async def _start(self, name: str, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        try:
            engine = await stack.enter_async_context(self._make_engine(folder))
        except ModelError:
            self._metrics.model_loads.labels("failure").inc()
            raise
        batcher: Batcher[Pixels, Scores] = Batcher(
            engine.predict,
            max_batch_size=self._limits.max_batch_size,
            max_queue_delay_seconds=self._limits.max_queue_delay_seconds,
            max_queue_items=self._limits.max_queue_items,
            max_queue_bytes=self._limits.max_queue_bytes,
            max_stall_seconds=self._limits.max_stall_seconds,
            known_good=[_GREY],
            max_batches_under_way=self._limits.max_batches_under_way,
            lanes=self._limits.lanes,
            pass_seconds=engine.info.pass_seconds,
            observe=functools.partial(self._metrics.observe_batch, name),
            on_broken=lambda reason: self._on_failure(f"the engine of model {name!r} failed: {reason}"),
        )
        await stack.enter_async_context(batcher)
        card = self._cards[name]
        self._metrics.watch_queue(name, lambda: batcher.queued_items)
        self._metrics.model_loads.labels("success").inc()
        self._metrics.model_info.labels(name, card.version, card.digest, engine.info.device, engine.info.precision).set(
            1
        )
        _log.info(
            "model ready",
            model=name,
            version=card.version,
            digest=card.digest[:12],
            device=engine.info.device,
            precision=engine.info.precision,
            test_accuracy=card.test.accuracy,
        )
        self._statuses[name] = replace(
            self._statuses[name], state=ModelState.READY, served=ServedModel(card, engine, batcher)
        )


def _choose_default(names: tuple[str, ...], wanted: str, repository: Path) -> str:
    if not names:
        raise StartError(f"repository {repository}: no model in it; expected {repository}/MODEL/VERSION/model.json")
    if wanted and wanted not in names:
        raise StartError(f"--default-model {wanted}: not in {repository}; expected one of {', '.join(names)}")
    if wanted:
        return wanted
    if DEFAULT_MODEL in names:
        return DEFAULT_MODEL
    if len(names) > 1:
        raise StartError(f"repository {repository}: name one of {', '.join(names)} with --default-model")
    return names[0]


def _verified_card(folder: Path) -> Card:
    card = read_card(folder)
    read_weights(folder, card)
    return card


@contextlib.contextmanager
def _as_start_error() -> Iterator[None]:
    try:
        yield
    except ModelError as exc:
        raise StartError(str(exc)) from exc
