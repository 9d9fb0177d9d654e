"""Loading one version: card and digest first, which is quick, then an engine and its queue. Keeps no state."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog

from models.card import Card
from models.errors import ModelError
from models.repository import Repository
from models.verification import check_digest, read_card
from server.engines import Engine
from server.errors import StartError
from server.metrics import Metrics
from server.served import BatchLimits, ServedModel, serve_version

# A quiet engine takes about ten seconds beside a busy one, and for ever beside one that leaves no time at all.
_PATIENCE_SECONDS = 30.0

_log = structlog.get_logger(__name__)


class Refused(Exception):
    """A version cannot be served; the message is one line for a person."""


class Loader:
    """Loads versions: all at once while the server starts, and one at a time afterwards."""

    def __init__(
        self,
        repository: Repository,
        *,
        make_engine: Callable[[Path], Engine],
        make_quiet_engine: Callable[[Path], Engine],
        is_quiet: Callable[[], bool],
        limits: BatchLimits,
        metrics: Metrics,
        on_failure: Callable[[str], None],
    ) -> None:
        """Take what every version is loaded with.

        Args:
            repository: where the versions lie.
            make_engine: returns an engine for a version's folder.
            make_quiet_engine: the same, for one that loads with what the processor has to spare.
            is_quiet: returns whether to load so now.
            limits: for every version's queue.
            metrics: is told of loads and batches.
            on_failure: is told why the server cannot go on, when an engine is broken or stuck.
        """
        self._repository = repository
        self._make_engine = make_engine
        self._make_quiet_engine = make_quiet_engine
        self._is_quiet = is_quiet
        self._limits = limits
        self._metrics = metrics
        self._on_failure = on_failure
        self._one_at_a_time = asyncio.Lock()
        self.starting = True

    async def load(self, model: str, version: int) -> ServedModel:
        """Verify a version, load it and warm it up.

        Raises:
            Refused: it is damaged, or its engine did not start.
            StartError: while the server starts, its engine cannot run on this machine.
        """
        async with contextlib.nullcontext() if self.starting else self._one_at_a_time:
            started = time.monotonic()
            async with self._counted(model, version):
                served = await self._serve(model, version)
            seconds = time.monotonic() - started
        self._metrics.model_loads.labels("success").inc()
        self._metrics.model_load_seconds.labels(model).observe(seconds)
        _log_ready(served, seconds)
        return served

    async def _serve(self, model: str, version: int) -> ServedModel:
        folder = self._repository.path / model / str(version)
        card = await asyncio.to_thread(_verify, folder)
        start = functools.partial(
            serve_version,
            card,
            limits=self._limits,
            observe=functools.partial(self._metrics.observe_batch, model),
            on_broken=lambda reason: self._on_failure(f"the engine of model {model!r} failed: {reason}"),
        )
        if self._is_quiet():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    return await start(self._make_quiet_engine(folder))
            _log.warning("the processor has nothing to spare: loading as one of many", model=model, version=version)
        return await start(self._make_engine(folder))

    @contextlib.asynccontextmanager
    async def _counted(self, model: str, version: int) -> AsyncIterator[None]:
        """Turn what goes wrong into a refusal, counted and logged."""
        try:
            yield
        except ModelError as exc:
            raise self._refusal(model, version, str(exc), exc.fault) from exc
        except StartError as exc:
            if self.starting:
                raise
            raise self._refusal(model, version, str(exc), "engine") from exc
        except Exception as exc:
            _log.exception("the engine did not start", model=model, version=version)
            if self.starting:
                raise
            raise self._refusal(model, version, "its engine did not start; the log says why", "engine") from exc

    def _refusal(self, model: str, version: int, message: str, fault: str) -> Refused:
        reason = self._repository.without_path(message)
        self._metrics.model_loads.labels("failure").inc()
        self._metrics.model_load_failures.labels(model, fault).inc()
        _log.error("version refused", model=model, version=version, fault=fault, reason=reason)
        return Refused(reason)


def _verify(folder: Path) -> Card:
    card = read_card(folder)
    check_digest(folder, card)
    return card


def _log_ready(served: ServedModel, seconds: float) -> None:
    card, info = served.card, served.engine.info
    _log.info(
        "model ready",
        model=card.model,
        version=card.version,
        digest=card.digest[:12],
        device=info.device,
        precision=info.precision,
        test_accuracy=card.test.accuracy,
        load_seconds=round(seconds, 2),
    )
