"""One model over time: brings what is served of it to what is wanted, one step after another."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from models.repository import ModelFolder, Repository
from server.loading import Loader, Refused
from server.metrics import Metrics, ServedInfo
from server.reconciliation import Actual, Load, ModelControl, Refusal, Unload, next_step, standing_refusals, target
from server.served import ServedModel

_log = structlog.get_logger(__name__)


class ModelState(StrEnum):
    """Whether a model answers."""

    LOADING = "loading"
    READY = "ready"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class RefusedVersion:
    """A version that is not served, and why in one line."""

    version: int
    reason: str


@dataclass(frozen=True)
class ModelStatus:
    """What is known of one model, ready or not.

    Attributes:
        name: the model.
        versions: what the repository holds, ascending.
        state: whether it answers.
        is_default: whether requests that name no model go to it.
        reason: why it does not answer; empty when it does.
        served: the version that answers; None while none does.
        loading_version: the version that is being loaded; 0: none.
        pinned_version: the version that an operator pinned it to; 0: none.
        refused: the versions that were tried and are not served.
    """

    name: str
    versions: tuple[int, ...]
    state: ModelState
    is_default: bool
    reason: str = ""
    served: ServedModel | None = None
    loading_version: int = 0
    pinned_version: int = 0
    refused: tuple[RefusedVersion, ...] = ()


class FollowedModel:
    """One model of the repository, and the version of it that answers.

    Attributes:
        folder: what the repository held when it was last looked at.
        served: the version that answers, None while none does. Replaced in one assignment.
    """

    def __init__(
        self,
        name: str,
        folder: ModelFolder,
        *,
        repository: Repository,
        control: ModelControl,
        loader: Loader,
        metrics: Metrics,
        on_ready: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        """Follow nothing yet; `on_ready` is told when the model begins or ceases to answer."""
        self.name = name
        self.folder = folder
        self.served: ServedModel | None = None
        self._repository = repository
        self._control = control
        self._loader = loader
        self._metrics = metrics
        self._on_ready = on_ready
        self._loading_version = 0
        self._tried = False
        self._generation = 0
        self._refusals: dict[int, Refusal] = {}
        self._stepping = asyncio.Lock()
        self._open: set[ServedModel] = set()

    @property
    def target(self) -> int:
        """The version that should answer if it is sound; 0: none should."""
        return target(self.folder, self._control)

    @property
    def refusals(self) -> dict[int, Refusal]:
        """The versions that were tried and are not served."""
        return standing_refusals(self.folder, self._refusals)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be done, or it is being done."""
        return self._stepping.locked() or self._next_step() is None

    @property
    def is_gone(self) -> bool:
        """Whether the repository holds nothing of it and nothing of it is served."""
        return not (self.folder.versions or self.folder.fault or self.served or self._stepping.locked())

    async def follow(self) -> None:
        """Look at the repository and take step after step until what is served is what is wanted.

        Raises:
            StartError: while the server starts, an engine cannot run on this machine.
        """
        async with self._stepping:
            self.folder = await asyncio.to_thread(self._repository.look, self.name)
            while step := self._next_step():
                await (self._load(step.version) if isinstance(step, Load) else self._replace(None))
                self.folder = await asyncio.to_thread(self._repository.look, self.name)
            self._tried = True

    async def close(self) -> None:
        """Answer what is accepted, and free every engine, also that of a version that is just being replaced."""
        await asyncio.gather(*(served.close() for served in tuple(self._open)))

    def status(self, *, is_default: bool) -> ModelStatus:
        """Return what is known of it."""
        state = self._state()
        return ModelStatus(
            self.name,
            tuple(self.folder.versions),
            state,
            is_default=is_default,
            reason=self._reason() if state is ModelState.UNAVAILABLE else "",
            served=self.served,
            loading_version=self._loading_version,
            pinned_version=self.folder.desired.pinned_version,
            refused=tuple(RefusedVersion(number, refusal.reason) for number, refusal in sorted(self.refusals.items())),
        )

    def _next_step(self) -> Load | Unload | None:
        version = self.served.card.version if self.served else 0
        return next_step(self.folder, Actual(version, self._generation, self._refusals), self._control)

    async def _load(self, version: int) -> None:
        """Load a version beside the one that answers, then let it answer; or note why it cannot be served."""
        tried = self.folder
        self._loading_version = version
        try:
            new = await self._loader.load(self.name, version)
            self._refusals.pop(version, None)
            await self._replace(new)
        except Refused as exc:
            self._refusals[version] = Refusal(str(exc), tried.versions[version], tried.desired.generation)
        finally:
            self._loading_version = 0
            self._generation = tried.desired.generation

    async def _replace(self, new: ServedModel | None) -> None:
        """Let `new` answer from now on; the version before answers what it was given, and is closed."""
        old, self.served = self.served, new
        self._metrics.observe_swap(self.name, old=_info(old), new=_info(new))
        if new:
            self._open.add(new)
            self._metrics.show_costs(self.name, new.engine.info.batch_seconds)
            self._metrics.watch_queue(self.name, lambda: sum(served.batcher.queued_items for served in self._open))
        await self._on_ready(self.name, new is not None)
        if old:
            await old.close()
            self._open.discard(old)
            _log.info("version closed", model=self.name, version=old.card.version)

    def _state(self) -> ModelState:
        if self.served:
            return ModelState.READY
        return ModelState.LOADING if self._loading_version or not self._tried else ModelState.UNAVAILABLE

    def _reason(self) -> str:
        """Return why the model does not answer."""
        wanted = self.target
        if self.folder.fault:
            return self._repository.without_path(self.folder.fault)
        if not self.folder.versions:
            return "it is not in the repository"
        if not wanted:
            return "unloaded on request" if self.folder.desired.unloaded else "not loaded: nobody asked for it"
        if wanted in self.refusals:
            return self.refusals[wanted].reason
        return f"version {wanted} is wanted and is not in the repository"


def _info(served: ServedModel | None) -> ServedInfo | None:
    if served is None:
        return None
    card, info = served.card, served.engine.info
    return ServedInfo(card.version, card.digest, info.device, info.precision, info.layout)
