"""`cifarserve models`: what the server can be asked."""

import asyncio
import dataclasses
import json
from collections.abc import Sequence

import click

from client.commands.group import Connect
from client.results import ModelSummary

_HEADER = ("model", "version", "state", "default", "sha256", "in repository")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model, one per line.")
@click.pass_obj
def models(connect: Connect, *, as_json: bool) -> None:
    """List the models that the server knows, ready or not.

    The version is the one that answers now; a model that does not answer has none, and its state says
    why. Requests that name no model go to the default one.
    """
    summaries = asyncio.run(_list(connect))
    for line in map(to_json, summaries) if as_json else to_table(summaries):
        click.echo(line)


def to_json(model: ModelSummary) -> str:
    """Return one model as one line of JSON."""
    return json.dumps(dataclasses.asdict(model))


def to_table(models: Sequence[ModelSummary]) -> list[str]:
    """Return a header and one line per model, in columns."""
    rows = [_HEADER, *map(_to_row, models)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


async def _list(connect: Connect) -> tuple[ModelSummary, ...]:
    async with connect() as client:
        return await client.list_models()


def _to_row(model: ModelSummary) -> tuple[str, ...]:
    serving = model.serving
    return (
        model.name,
        str(serving.version) if serving else "-",
        f"{model.state}: {model.reason}" if model.reason else str(model.state),
        "yes" if model.is_default else "",
        f"{serving.digest[:8]}…" if serving else "-",
        " ".join(map(str, model.versions)),
    )
