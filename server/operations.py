"""What operators may ask for: each request changes what is wanted, on the disk, and follows it to the end.

Knows no protocol and no caller.
"""

import asyncio
from collections.abc import Callable

from models.desired import DesiredState, change_desired
from models.errors import ModelError
from models.repository import ModelFolder, Repository
from server.catalog import Catalog
from server.errors import ModelNotFound, NotPossible
from server.following import ModelStatus
from server.reconciliation import ModelControl


class Operations:
    """Loads, unloads and pins models on request. A request that fails leaves what was wanted as it was.

    An empty name means the default model. Each method returns how the model is afterwards, and raises
    ModelNotFound when there is no such model, and NotPossible when the server follows nothing or the
    repository cannot be written.
    """

    def __init__(self, catalog: Catalog, repository: Repository) -> None:
        self._catalog = catalog
        self._repository = repository

    async def versions(self, name: str) -> ModelStatus:
        """Return what is known of a model now."""
        await self._look()
        return self._catalog.status(name)

    async def load(self, name: str) -> ModelStatus:
        """Serve a model; raises NotPossible when the version that is wanted is refused and no other may answer."""
        await self._look()
        status = self._catalog.status(name)
        lacking = status.served is None or bool(self._catalog.refusal(status.name))  # then it is tried again

        def loaded(folder: ModelFolder) -> DesiredState:
            desired = folder.desired.loaded(max(folder.versions, default=0))
            return desired.afresh() if lacking else desired

        return await self._change(name, loaded, strict=self._catalog.control is ModelControl.EXPLICIT)

    async def unload(self, name: str) -> ModelStatus:
        """Serve no version of a model any more."""
        return await self._change(name, lambda folder: folder.desired.without(), strict=False)

    async def pin(self, name: str, version: int) -> ModelStatus:
        """Serve exactly this version; raises NotPossible when it is refused."""

        def pinned(folder: ModelFolder) -> DesiredState:
            if version not in folder.versions:
                raise ModelNotFound(
                    f"unknown version {version}: expected one of {', '.join(map(str, folder.versions)) or 'none'}"
                )
            return folder.desired.pinned(version)

        return await self._change(name, pinned, strict=True)

    async def unpin(self, name: str) -> ModelStatus:
        """Serve what would be served had the model not been pinned."""
        return await self._change(name, lambda folder: folder.desired.pinned(0), strict=False)

    async def reload(self, name: str) -> ModelStatus:
        """Load what is served afresh; raises NotPossible when the version that is wanted is refused."""
        return await self._change(name, lambda folder: folder.desired.afresh(), strict=True)

    async def _change(self, name: str, change: Callable[[ModelFolder], DesiredState], *, strict: bool) -> ModelStatus:
        """Change what is wanted and follow it; when that fails, want again what was wanted before.

        Args:
            name: the model.
            change: from what the repository holds of it to what is wanted.
            strict: whether a refusal is a failure also when another version answers.
        """
        if self._catalog.control is ModelControl.NONE:
            raise NotPossible("this server was started with --model-control none: expected poll or explicit")
        await self._look()
        name = self._catalog.status(name).name
        before = await asyncio.to_thread(self._write, name, change)
        status = await self._catalog.follow(name)
        refusal = self._catalog.refusal(name)
        if not refusal or (status.served and not strict):
            return status
        await asyncio.to_thread(self._write, name, lambda folder: _undone(folder.desired, before))
        status = await self._catalog.follow(name)
        answers = f"version {status.served.card.version} goes on" if status.served else "no version answers"
        raise NotPossible(f"refused, {answers}: {refusal}")

    async def _look(self) -> None:
        """See what was published a moment ago."""
        if self._catalog.control is not ModelControl.NONE:
            try:
                await self._catalog.look()
            except ModelError as exc:
                raise NotPossible("the repository cannot be read; the log says why") from exc

    def _write(self, name: str, change: Callable[[ModelFolder], DesiredState]) -> DesiredState:
        """Change what is wanted of a model on the disk, and return what was wanted before."""
        before: list[DesiredState] = []

        def changed(desired: DesiredState) -> DesiredState:
            before.append(desired)
            return change(self._repository.look(name))

        try:
            change_desired(self._repository.path / name, changed)
        except OSError as exc:
            raise NotPossible(f"model {name!r}: its folder cannot be written: {exc.strerror}") from exc
        except ModelError as exc:
            raise NotPossible(self._repository.without_path(str(exc))) from exc
        return before[0]


def _undone(now: DesiredState, before: DesiredState) -> DesiredState:
    # The generation only grows: what was refused is not tried a second time.
    return before.model_copy(update={"generation": now.generation})
