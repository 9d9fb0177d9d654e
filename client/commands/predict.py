"""`cifarserve predict`: classify files, folders, standard input, and what comes into a folder."""

import asyncio
import contextlib
import functools
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from client.commands.completion import model_option
from client.commands.exits import Exit
from client.commands.group import Connect
from client.commands.output import Output, OutputFormat, to_output
from client.commands.sheet import Sheet, opened_sheet
from client.errors import DeadlineExceeded, Overloaded, ServerUnavailable
from client.pipeline import MAX_BATCH_PICTURES, Classified, Predict, classify
from client.progress import progress_bar
from client.requests import Image
from client.results import Answer, ModelIdentity
from client.sources import Source, expand
from client.watching import FolderWatch

_LOOK_SECONDS = 0.2
_TRY_AGAIN_SECONDS = 1.0
_PASSING = (Overloaded, ServerUnavailable, DeadlineExceeded)

_EPILOG = """\b
With --output jsonl, every line is one of
  {"file": ..., "predictions": [{"label": ..., "index": ..., "probability": ...}, ...],
   "model": ..., "version": ..., "digest": ...}
  {"file": ..., "error": ...}
With --output csv, the columns are
  file,label_1,probability_1,...,label_N,probability_N,model,version,error

\b
Exit status: 0 when every picture was classified, 1 when some were not. See cifarserve --help for the others.

\b
Examples:
  cifarserve predict cat.jpg dog.png
  cifarserve predict --top-k 1 --output csv holiday-photos/ > labels.csv
  cifarserve predict --output jsonl - < cat.jpg
  cifarserve predict --sheet labelled.png holiday-photos/
  cifarserve predict --output jsonl --watch incoming/ >> labels.jsonl
"""


@click.command(epilog=_EPILOG)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
@click.option(
    "--top-k",
    metavar="N",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many labels to print per picture.",
)
@model_option
@click.option(
    "--version",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default="the one being served",
    help="Version of the model.",
)
@click.option(
    "--output",
    "output_format",
    type=click.Choice([each.value for each in OutputFormat]),
    default=OutputFormat.TABLE.value,
    show_default=True,
    help="How to print: an aligned table, one JSON object per line, or comma-separated values.",
)
@click.option(
    "--sheet",
    metavar="FILE.png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw thumbnails with their labels into one picture.",
)
@click.option(
    "--watch",
    "watched",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Afterwards, classify what comes into this folder, until interrupted.",
)
@click.pass_context
def predict(
    ctx: click.Context,
    *,
    files: Sequence[str],
    top_k: int,
    model: str,
    version: int,
    output_format: str,
    sheet: Path | None,
    watched: str | None,
) -> None:
    """Classify pictures and print their most probable labels.

    FILE is a JPEG or PNG picture of any width and height and at most 8 MiB, a folder, which stands for
    the .jpg, .jpeg and .png files directly in it, or - for standard input.

    Prints one line per picture, in the order of the arguments: its name, then labels and their
    probabilities, most probable first. A picture that cannot be read or classified has an error in
    place of labels, and the others go on. The last line of a table names the model that answered.

    With --watch, pictures that come into DIR later are classified too, each when it is whole: a file
    that is still being written is left until its end is there, or until nobody has written to it for two
    seconds. Those that lie in DIR already are classified if DIR is a FILE too. While the server is away
    or busy they wait. A file that changes is classified again.
    """
    if not files and watched is None:
        raise click.UsageError("expected a FILE, a folder, - or --watch DIR, got none")
    if sheet and watched:
        raise click.UsageError("--sheet needs to know how many pictures there are: expected no --watch beside it")
    watch = FolderWatch(watched) if watched else None  # before the files are listed, so that none is missed
    sources = expand(files)
    output = to_output(OutputFormat(output_format), top_k=top_k, names=(source.name for source in sources))
    with opened_sheet(sheet, sources) as drawn:
        report = _Report(output, drawn)
        asyncio.run(_predict(ctx.obj, sources, watch, report, model=model, version=version, top_k=top_k))
    report.end()
    if report.failed:
        ctx.exit(Exit.SOME_FAILED)


@dataclass
class _Report:
    """Writes answers as they come.

    Attributes:
        models: those that answered, more than one if the server swapped them meanwhile.
        failed: how many pictures have no labels.
    """

    output: Output
    sheet: Sheet | None
    models: dict[ModelIdentity, None] = field(default_factory=dict)
    failed: int = 0

    def begin(self) -> None:
        _print(self.output.begin())

    async def add(self, batch: Sequence[Classified]) -> None:
        _print(self.output.lines(batch))  # at once: a write for each picture takes longer than making its line
        self.failed += sum(classified.result.error is not None for classified in batch)
        self.models |= dict.fromkeys({classified.model for classified in batch if classified.model})
        if self.sheet:
            await asyncio.to_thread(self.sheet.add, batch)

    def end(self) -> None:
        _print(self.output.end(self.models))


def _print(lines: Sequence[str]) -> None:
    if lines:
        click.echo("\n".join(lines))


async def _predict(
    connect: Connect,
    sources: Sequence[Source],
    watch: FolderWatch | None,
    report: _Report,
    *,
    model: str,
    version: int,
    top_k: int,
) -> None:
    _collect_garbage_rarely()
    async with connect() as client:
        ask: Predict = functools.partial(client.predict, model=model, version=version, top_k=top_k)
        report.begin()
        # Nobody wants the bar where the table itself moves.
        visible = len(sources) > MAX_BATCH_PICTURES and not sys.stdout.isatty()
        with progress_bar(len(sources), visible=visible) as advance:
            await _classify(sources, ask, report, advance)
        if watch:
            patient = functools.partial(_predict_some_time, ask)
            async for names in _new_files(watch):
                await _classify(map(Source, names), patient, report)


def _collect_garbage_rarely() -> None:
    """Spare the search for cycles, of which pictures leave none, a tenth of the command's time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _classify(
    sources: Iterable[Source], ask: Predict, report: _Report, advance: Callable[[int], None] = lambda _: None
) -> None:
    async with contextlib.aclosing(classify(sources, ask)) as batches:
        async for batch in batches:
            await report.add(batch)
            advance(len(batch))


async def _new_files(watch: FolderWatch) -> AsyncIterator[list[str]]:
    """Yield what comes into a folder, for ever."""
    while True:
        if names := await asyncio.to_thread(watch.look):
            yield names
        await asyncio.sleep(_LOOK_SECONDS)


async def _predict_some_time(predict: Predict, images: Sequence[Image]) -> Answer:
    """Ask until the server answers; say once that it does not."""
    is_told = False
    while True:
        try:
            return await predict(images)
        except _PASSING as exc:
            if not is_told:
                click.echo(f"cifarserve: {exc}; trying again until it answers", err=True)
            is_told = True
            await asyncio.sleep(_TRY_AGAIN_SECONDS)
