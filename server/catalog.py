"""The models that this server serves: finds them in the repository, and follows what is wanted of each.

Knows no protocol; the doors ask it for a model by name.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Self

import structlog

from models import DEFAULT_MODEL
from models.errors import ModelError
from models.repository import ModelFolder, Repository
from server.engines import Engine
from server.errors import ModelNotFound, NotReady, StartError
from server.following import FollowedModel, ModelState, ModelStatus
from server.loading import Loader
from server.metrics import Metrics
from server.reconciliation import ModelControl
from server.served import BatchLimits, ServedModel

_log = structlog.get_logger(__name__)


async def _nobody_asked(model: str, ready: bool) -> None:  # noqa: FBT001  # a callback's signature
    """Take no notice of a model that begins or ceases to answer."""


class Catalog:
    """All models of a repository, one version of each.

    Making it reads names only; entering it loads and warms up every model that is wanted, then follows
    the repository. Leaving it drains the queues, then frees the engines.
    """

    def __init__(
        self,
        repository: Path,
        *,
        default_model: str,
        make_engine: Callable[[Path], Engine],
        make_quiet_engine: Callable[[Path], Engine] | None = None,
        limits: BatchLimits,
        metrics: Metrics,
        on_failure: Callable[[str], None],
        control: ModelControl = ModelControl.NONE,
        poll_interval_seconds: float = 1.0,
        on_ready: Callable[[str, bool], Awaitable[None]] = _nobody_asked,
    ) -> None:
        """Find the models.

        Args:
            repository: the folder of models.
            default_model: who answers when no name is given; empty: the shipped default or the only one.
            make_engine: returns an engine for a version's folder.
            make_quiet_engine: the same, for one that loads beside models that answer; None: no difference.
            limits: for every model's queue.
            metrics: is told of batches, loads and queues.
            on_failure: is told why the server cannot go on, when an engine is broken or stuck.
            control: what is followed after the start.
            poll_interval_seconds: how often the repository is looked at.
            on_ready: is told when a model begins or ceases to answer.

        Raises:
            StartError: there is no repository, no model, or no such default.
        """
        with _as_start_error():
            self._repository = Repository(repository)
            found = self._repository.scan()
        self._default = _choose_default(
            tuple(name for name, folder in found.items() if folder.versions), default_model, repository
        )
        self._control = control
        self._poll_interval_seconds = poll_interval_seconds
        self._metrics = metrics
        self._on_ready = on_ready
        self._loader = Loader(
            self._repository,
            make_engine=make_engine,
            make_quiet_engine=make_quiet_engine or make_engine,
            is_quiet=self._is_disturbed_by_loading,
            limits=limits,
            metrics=metrics,
            on_failure=on_failure,
        )
        self._models = {name: self._made(name, folder) for name, folder in found.items()}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Load and warm up every model, side by side; each answers as soon as it is ready.

        A model other than the default that cannot be loaded is unavailable, and the others answer.

        Raises:
            StartError: the default model has no version that can be served, or no engine can run.
        """
        try:
            # All are awaited, so that none is still starting when the others are taken down.
            outcomes = await asyncio.gather(
                *(model.follow() for model in self._models.values()), return_exceptions=True
            )
            for outcome in filter(None, outcomes):
                raise outcome
            self._check_default()
        except BaseException:
            await self._close()
            raise
        self._loader.starting = False
        if self._control is not ModelControl.NONE:
            self._begin(self._poll(), name="poll the repository")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    def get(self, name: str = "", version: int = 0) -> ServedModel:
        """Return the model that answers; use it inside `with`, so that it is not closed meanwhile.

        Args:
            name: empty means the default model.
            version: 0 means the one being served.

        Raises:
            ModelNotFound: no such model, or that version is not being served.
            NotReady: the model is still being loaded.
        """
        model = self._models.get(name or self._default)
        if model is None or model.served is None:
            raise self._not_served(name or self._default)
        if version not in (0, model.served.card.version):
            refused = f" (it was refused: {model.refusals[version].reason})" if version in model.refusals else ""
            raise ModelNotFound(
                f"version {version} of model {model.name!r} is not served{refused}:"
                f" expected {model.served.card.version}, or 0 for whichever is"
            )
        return model.served

    def __contains__(self, name: str) -> bool:
        """Whether there is a model of this name, ready or not."""
        return name in self._models

    def status(self, name: str = "") -> ModelStatus:
        """Return what is known of one model; an empty name means the default.

        Raises:
            ModelNotFound: no such model.
        """
        name = name or self._default
        if name not in self._models:
            raise self._not_served(name)
        return self._models[name].status(is_default=name == self._default)

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Return all models, sorted by name."""
        return tuple(self.status(name) for name in sorted(self._models))

    def refusal(self, name: str) -> str:
        """Return why the version that is wanted of a model is refused; empty when it is not."""
        model = self._models[name]
        return model.refusals[model.target].reason if model.target in model.refusals else ""

    @property
    def control(self) -> ModelControl:
        """What is followed after the start."""
        return self._control

    async def look(self) -> None:
        """Look at the repository now, and begin to do what is to be done.

        Raises:
            RepositoryMissing: it cannot be read; what is served goes on.
        """
        found = await asyncio.to_thread(self._repository.scan)
        if not found:  # a volume that is not mounted looks like this: nothing is unloaded
            _log.warning("the repository is empty, what is served goes on", repository=str(self._repository.path))
            return
        for name in found.keys() - self._models.keys():
            self._models[name] = self._made(name, found[name])
        for name, model in tuple(self._models.items()):
            model.folder = found.get(name, ModelFolder())
            if not model.is_settled:
                self._begin(model.follow(), name=f"follow {name}")
            elif model.is_gone and name != self._default:
                self._metrics.forget(name)
                del self._models[name]

    async def follow(self, name: str) -> ModelStatus:
        """Do all that is to be done for one model; what was begun goes on when the caller leaves.

        Raises:
            ModelNotFound: no such model.
        """
        if name in self._models:
            await asyncio.shield(self._begin(self._models[name].follow(), name=f"follow {name}"))
        return self.status(name)

    async def _poll(self) -> None:
        """Look at the repository again and again; whatever happens there, what is served goes on."""
        while True:
            await asyncio.sleep(self._poll_interval_seconds)
            try:
                await self.look()
            except ModelError as exc:
                _log.warning("the repository cannot be read, what is served goes on", reason=str(exc))
            except Exception:  # noqa: BLE001  # following outlives whatever lies in a folder
                _log.exception("looking at the repository failed")

    async def _close(self) -> None:
        """Stop following, then answer what is accepted and free the engines."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(model.close() for model in self._models.values()))

    def _begin(self, work: Coroutine[None, None, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()):
            _log.error("following the repository failed", task=task.get_name(), exc_info=exc)

    def _is_disturbed_by_loading(self) -> bool:
        return not self._loader.starting and any(model.served for model in self._models.values())

    def _check_default(self) -> None:
        status = self.status()
        model = self._models[status.name]
        if status.served is None and (model.target or model.folder.fault):
            raise StartError(f"model {status.name!r} cannot be served: {status.reason}")

    def _made(self, name: str, folder: ModelFolder) -> FollowedModel:
        return FollowedModel(
            name,
            folder,
            repository=self._repository,
            control=self._control,
            loader=self._loader,
            metrics=self._metrics,
            on_ready=self._on_ready,
        )

    def _not_served(self, name: str) -> ModelNotFound | NotReady:
        if name not in self._models:
            return ModelNotFound(f"unknown model {name!r}: expected one of {', '.join(sorted(self._models))}")
        status = self.status(name)
        if status.state is ModelState.LOADING:
            return NotReady(f"model {name!r} is loading; retry soon")
        return ModelNotFound(f"model {name!r} is not served: {status.reason}")


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


@contextlib.contextmanager
def _as_start_error() -> Iterator[None]:
    try:
        yield
    except ModelError as exc:
        raise StartError(str(exc)) from exc
