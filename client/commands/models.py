"""`cifarserve models`: what the server can be asked, and what its operator may decide."""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Sequence

import click

from client.admin import ModelAdminClient, ModelVersion, ModelVersions
from client.commands.completion import complete_model
from client.commands.group import Connect
from client.results import ModelSummary

_HEADER = ("model", "version", "state", "default", "sha256", "in repository")
_VERSION_HEADER = ("model", "version", "state", "pinned", "sha256")

_EPILOG = """\b
Exit status: 0 when the server has done it, 4 when it refused. See cifarserve --help for the others.

\b
Examples:
  cifarserve models
  cifarserve models list whitened
  cifarserve models rollback whitened
  cifarserve --timeout-seconds 120 models pin whitened 3 --json
"""

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
_name_argument = click.argument("name", metavar="NAME", shell_complete=complete_model)


@click.group(invoke_without_command=True, epilog=_EPILOG)
@_json_option
@click.pass_context
def models(ctx: click.Context, *, as_json: bool) -> None:
    """List the models that the server knows, or decide what it serves.

    Without a sub-command this is `models list`. The others need a token of scope admin, or, where the server
    has no tokens, the server's own machine. They wait until the server has done what was asked: when
    --timeout-seconds is over earlier, the server goes on. A version that is refused is an error, and what was
    served still is.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, name="", as_json=as_json)


@models.command("list")
@click.argument("name", metavar="[NAME]", default="", shell_complete=complete_model)
@_json_option
@click.pass_obj
def list_models(connect: Connect, *, name: str, as_json: bool) -> None:
    """List the models, ready or not; with NAME, every version of that one.

    The version of a model is the one that answers now; a model that does not answer has none, and its
    state says why. Requests that name no model go to the default one.
    """
    if name:
        _print_versions(_ask(connect, lambda admin: admin.versions(name)), as_json=as_json)
        return
    summaries = asyncio.run(_list(connect))
    for line in map(to_json, summaries) if as_json else to_table(summaries):
        click.echo(line)


@models.command()
@_name_argument
@_json_option
@click.pass_obj
def load(connect: Connect, *, name: str, as_json: bool) -> None:
    """Serve a model: its newest version, or the one that it is pinned to."""
    _print_versions(_ask(connect, lambda admin: admin.load(name)), as_json=as_json)


@models.command()
@_name_argument
@_json_option
@click.pass_obj
def unload(connect: Connect, *, name: str, as_json: bool) -> None:
    """Serve a model no more, also after a restart, until `models load`."""
    _print_versions(_ask(connect, lambda admin: admin.unload(name)), as_json=as_json)


@models.command()
@_name_argument
@_json_option
@click.pass_obj
def rollback(connect: Connect, *, name: str, as_json: bool) -> None:
    """Pin a model to the version before the one that answers."""
    _print_versions(_ask(connect, lambda admin: admin.rollback(name)), as_json=as_json)


@models.command()
@_name_argument
@click.argument("version", metavar="VERSION", type=click.IntRange(min=1))
@_json_option
@click.pass_obj
def pin(connect: Connect, *, name: str, version: int, as_json: bool) -> None:
    """Serve exactly this version, whatever is published, until `models unpin`."""
    _print_versions(_ask(connect, lambda admin: admin.pin(name, version)), as_json=as_json)


@models.command()
@_name_argument
@_json_option
@click.pass_obj
def unpin(connect: Connect, *, name: str, as_json: bool) -> None:
    """Serve the newest version again, or the one that was last loaded on request."""
    _print_versions(_ask(connect, lambda admin: admin.unpin(name)), as_json=as_json)


@models.command()
@_name_argument
@_json_option
@click.pass_obj
def reload(connect: Connect, *, name: str, as_json: bool) -> None:
    """Load what is served afresh from its files, and try again what was refused."""
    _print_versions(_ask(connect, lambda admin: admin.reload(name)), as_json=as_json)


def to_json(model: ModelSummary) -> str:
    """Return one model as one line of JSON."""
    return json.dumps(dataclasses.asdict(model))


def to_table(models: Sequence[ModelSummary]) -> list[str]:
    """Return a header and one line per model, in columns."""
    return _columns([_HEADER, *map(_to_row, models)])


def to_version_table(model: ModelVersions) -> list[str]:
    """Return a header and one line per version, in columns."""
    return _columns([_VERSION_HEADER, *(_to_version_row(model, version) for version in model.versions)])


def _ask(connect: Connect, ask: Callable[[ModelAdminClient], Awaitable[ModelVersions]]) -> ModelVersions:
    async def asked() -> ModelVersions:
        async with connect.admin() as admin:
            return await ask(admin)

    return asyncio.run(asked())


async def _list(connect: Connect) -> tuple[ModelSummary, ...]:
    async with connect() as client:
        return await client.list_models()


def _print_versions(model: ModelVersions, *, as_json: bool) -> None:
    lines = [json.dumps(dataclasses.asdict(model))] if as_json else to_version_table(model)
    for line in lines:
        click.echo(line)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _to_row(model: ModelSummary) -> tuple[str, ...]:
    serving = model.serving
    return (
        model.name,
        str(serving.version) if serving else "-",
        _to_state(model),
        "yes" if model.is_default else "",
        f"{serving.digest[:8]}…" if serving else "-",
        " ".join(map(str, model.versions)),
    )


def _to_state(model: ModelSummary) -> str:
    """Return the state with all that an operator should know of it."""
    if model.reason:
        return f"{model.state}: {model.reason}"
    pinned = [f"pinned to {model.pinned_version}"] if model.pinned_version else []
    loading = [f"loading {model.loading_version}"] if model.loading_version else []
    refused = [f"{each.version} refused: {each.reason}" for each in model.refused]
    return "; ".join([str(model.state), *pinned, *loading, *refused])


def _to_version_row(model: ModelVersions, version: ModelVersion) -> tuple[str, ...]:
    return (
        model.name,
        str(version.version),
        f"{version.state}: {version.reason}" if version.reason else str(version.state),
        "yes" if version.version == model.pinned_version else "",
        f"{version.digest[:8]}…" if version.digest else "-",
    )
