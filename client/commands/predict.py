"""`cifarserve predict`: classify files, folders and standard input."""

import asyncio
import contextlib
import functools
import json
import sys
from collections.abc import Callable, Sequence

import click

from client.commands.group import Connect
from client.pipeline import MAX_BATCH_PICTURES, Classified, Predict, classify
from client.results import ModelIdentity, Prediction
from client.sources import Source, expand

_SOME_FAILED = 1
_LABEL_WIDTH = len("automobile")  # the longest of CIFAR-10; a longer one only loses its alignment


_EPILOG = """\b
With --json, every line is one of
  {"file": ..., "predictions": [{"label": ..., "index": ..., "probability": ...}, ...],
   "model": ..., "version": ..., "digest": ...}
  {"file": ..., "error": ...}

\b
Examples:
  cifarserve predict cat.jpg dog.png
  cifarserve predict --top-k 1 holiday-photos/
  cifarserve predict --json - < cat.jpg
"""


@click.command(no_args_is_help=True, epilog=_EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--top-k",
    metavar="N",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many labels to print per picture.",
)
@click.option("--model", metavar="NAME", default="", show_default="the server's default", help="Model to ask.")
@click.option(
    "--version",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default="the one being served",
    help="Version of the model.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per picture, one per line.")
@click.pass_context
def predict(ctx: click.Context, *, files: Sequence[str], top_k: int, model: str, version: int, as_json: bool) -> None:
    """Classify pictures and print their most probable labels.

    FILE is a JPEG or PNG picture of any width and height and at most 8 MiB, a folder, which stands for
    the .jpg, .jpeg and .png files directly in it, or - for standard input.

    Prints one line per picture, in the order of the arguments: its name, then labels and their
    probabilities, most probable first. A picture that cannot be read or classified has an error in
    place of labels, and the others go on. The last line names the model that answered.
    """
    sources = expand(files)
    render = to_json if as_json else functools.partial(to_row, name_width=max(len(source.name) for source in sources))
    ask = functools.partial(_classify_and_print, ctx.obj, sources, render)
    models, failed = asyncio.run(ask(model=model, version=version, top_k=top_k))
    if not as_json:
        for identity in models:
            click.echo(to_footer(identity))
    if failed:
        ctx.exit(_SOME_FAILED)


def to_json(classified: Classified) -> str:
    """Return one picture's answer as one line of JSON."""
    if classified.model is None or classified.result.error is not None:
        return json.dumps({"file": classified.name, "error": classified.result.error})
    return json.dumps(
        {
            "file": classified.name,
            "predictions": [_to_object(prediction) for prediction in classified.result.predictions],
            "model": classified.model.name,
            "version": classified.model.version,
            "digest": classified.model.digest,
        }
    )


def to_row(classified: Classified, *, name_width: int) -> str:
    """Return one picture's answer as one line of a table."""
    name = click.format_filename(classified.name).ljust(name_width)
    if classified.result.error is not None:
        return f"{name}  error: {classified.result.error}"
    return "  ".join([name, *map(_to_cell, classified.result.predictions)])


def to_footer(model: ModelIdentity) -> str:
    """Return the line that says which weights answered."""
    return f"{model.name} version {model.version} (sha256 {model.digest[:8]}…)"


async def _classify_and_print(
    connect: Connect,
    sources: Sequence[Source],
    render: Callable[[Classified], str],
    *,
    model: str,
    version: int,
    top_k: int,
) -> tuple[list[ModelIdentity], int]:
    """Return the models that answered, more than one if the server swapped them meanwhile, and the failures."""
    models: dict[ModelIdentity, None] = {}
    failed = 0
    async with connect() as client:
        ask: Predict = functools.partial(client.predict, model=model, version=version, top_k=top_k)
        with _progress(len(sources)) as progress:
            async with contextlib.aclosing(classify(sources, ask)) as answers:
                async for classified in answers:
                    click.echo(render(classified))
                    progress.update(1)
                    failed += classified.result.error is not None
                    if classified.model is not None:
                        models[classified.model] = None
    return list(models), failed


def _progress(pictures: int) -> "click._termui_impl.ProgressBar[int]":
    """Return a bar for the person at the terminal, unless the table itself moves there."""
    visible = pictures > MAX_BATCH_PICTURES and sys.stderr.isatty() and not sys.stdout.isatty()
    return click.progressbar(length=pictures, file=sys.stderr, hidden=not visible)


def _to_object(prediction: Prediction) -> dict[str, object]:
    # Seven digits are what the 32-bit number on the wire holds; the rest would be noise.
    probability = float(f"{prediction.probability:.7g}")
    return {"label": prediction.label, "index": prediction.index, "probability": probability}


def _to_cell(prediction: Prediction) -> str:
    return f"{prediction.label:<{_LABEL_WIDTH}} {prediction.probability:6.1%}"
