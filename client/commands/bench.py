"""`cifarserve bench`: how much a server answers, and how soon."""

import asyncio
import contextlib
import functools
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass

import click

from client.client import ClassifierClient
from client.commands.completion import model_option
from client.commands.exits import Exit
from client.commands.group import Connect
from client.commands.values import Finite
from client.errors import InvalidRequest, PictureMissing
from client.load import Load, Send, closed_loop, histogram, open_loop, percentile
from client.progress import progress_bar
from client.requests import Image, RawRgb
from client.results import ModelIdentity
from client.sources import expand

_RGB_BYTES = 32 * 32 * 3
_MAX_IN_FLIGHT = 10_000
_BAR_WIDTH = 40
_TICK_SECONDS = 0.1
_SHOWN_ERRORS = 5

_EPILOG = f"""\b
Latency is what a caller waits, over the network and back. Without --rate, --in-flight callers each send
their next request when the last one is answered (a closed loop): throughput at that concurrency. With
--rate, requests are sent at that pace whatever happens (an open loop), and a latency counts from the
moment at which the request was due; --in-flight then bounds how many are under way at once.

\b
This is one Python process: beyond some thousand requests per second it measures itself. Use several,
--images for more pictures in each request, or a load generator in C such as h2load.

\b
Exit status: {Exit.OK} when every request was answered, {Exit.SOME_FAILED} when some failed. See cifarserve --help.

\b
Examples:
  cifarserve bench --in-flight 64
  cifarserve bench --rate 500 --seconds 60 --model quick
  cifarserve bench --images 64 --in-flight 4 --json
  cifarserve bench holiday-photos/
"""


@dataclass(frozen=True)
class _Plan:
    """What the options say."""

    images: int
    in_flight: int
    rate: float | None
    seconds: float
    warm_up_seconds: float
    requests: int | None


@click.command(epilog=_EPILOG)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
@click.option(
    "--in-flight",
    metavar="N",
    type=click.IntRange(1, _MAX_IN_FLIGHT),
    show_default="16; with --rate 1000",
    help="Requests that are under way at once.",
)
@click.option(
    "--rate",
    metavar="R",
    type=Finite(min=0, min_open=True, max=1e6),
    show_default="as the answers come",
    help="Requests sent per second.",
)
@click.option(
    "--images",
    metavar="N",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Pictures in each request.",
)
@click.option(
    "--seconds",
    metavar="N",
    type=Finite(min=0.1, max=86_400),
    default=10.0,
    show_default=True,
    help="How long to send requests.",
)
@click.option(
    "--requests", metavar="N", type=click.IntRange(min=1), show_default="no bound", help="End after so many requests."
)
@click.option(
    "--warm-up-seconds",
    metavar="N",
    type=Finite(min=0, max=3600),
    default=1.0,
    show_default=True,
    help="How long to send requests before any is counted.",
)
@model_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of the report.")
@click.pass_context
def bench(  # click explains the options
    ctx: click.Context,
    *,
    files: Sequence[str],
    in_flight: int | None,
    rate: float | None,
    images: int,
    seconds: float,
    requests: int | None,
    warm_up_seconds: float,
    model: str,
    as_json: bool,
) -> None:
    """Send load to the server; print throughput, latency percentiles and a histogram.

    Pictures are noise of 32x32 raw pixels, which costs the server no decoding, or, if any FILE is given,
    JPEG and PNG files and folders of them, sent in turn. Nothing is tried again, so that refusals show.
    """
    plan = _Plan(images, in_flight or (1000 if rate else 16), rate, seconds, warm_up_seconds, requests)
    identity, load = asyncio.run(_bench(ctx.obj, _pictures(files), plan, model=model))
    lines = [_to_json(identity, load, plan)] if as_json else _to_report(identity, load, plan)
    click.echo("\n".join(lines))
    if load.failed:
        ctx.exit(Exit.SOME_FAILED)


def _pictures(files: Sequence[str]) -> list[Image]:
    """Return what is sent, in memory: reading files is not what is measured."""
    if not files:
        return [RawRgb(os.urandom(_RGB_BYTES))]
    pictures = [source.read() for source in expand(files)]
    for picture in pictures:
        if picture.error is not None:
            raise PictureMissing(f"{picture.name}: {picture.error}")
    return [picture.data for picture in pictures]


async def _bench(connect: Connect, pictures: Sequence[Image], plan: _Plan, *, model: str) -> tuple[ModelIdentity, Load]:
    turns = itertools.cycle(pictures)
    async with connect.once() as client:
        send = functools.partial(_send, client, turns, plan.images, model)
        identity = await send()  # a server that is not there, or a picture that it refuses, is an error at once
        if plan.warm_up_seconds:
            await _run(send, plan, seconds=plan.warm_up_seconds, requests=None)
        async with _progress(plan.seconds):
            return identity, await _run(send, plan, seconds=plan.seconds, requests=plan.requests)


async def _send(client: ClassifierClient, turns: "itertools.cycle[Image]", images: int, model: str) -> ModelIdentity:
    answer = await client.predict(list(itertools.islice(turns, images)), model=model)
    for result in answer.results:
        if result.error is not None:
            raise InvalidRequest(result.error)
    return answer.model


async def _run(send: Send, plan: _Plan, *, seconds: float, requests: int | None) -> Load:
    if plan.rate is None:
        return await closed_loop(send, in_flight=plan.in_flight, seconds=seconds, requests=requests)
    return await open_loop(send, rate=plan.rate, max_in_flight=plan.in_flight, seconds=seconds, requests=requests)


@contextlib.asynccontextmanager
async def _progress(seconds: float) -> AsyncIterator[None]:
    """Show on a terminal how much of the time is over."""
    ticks = round(seconds / _TICK_SECONDS)
    with progress_bar(ticks, visible=True) as advance:
        ticking = asyncio.create_task(_tick(advance, ticks))
        try:
            yield
        finally:
            ticking.cancel()


async def _tick(advance: Callable[[int], None], ticks: int) -> None:
    started = time.monotonic()
    for number in range(1, ticks + 1):
        await asyncio.sleep(started + number * _TICK_SECONDS - time.monotonic())
        advance(1)


def _to_report(identity: ModelIdentity, load: Load, plan: _Plan) -> list[str]:
    pace = f"{plan.in_flight} in flight" if plan.rate is None else f"{plan.rate:g} requests/s asked for"
    pictures = "1 picture" if plan.images == 1 else f"{plan.images} pictures"
    lines = [
        f"{identity.name} version {identity.version}, {pictures} a request, {pace}",
        f"requests    {load.answered:,} answered, {load.failed:,} failed, in {load.seconds:.1f} s",
    ]
    lines += [f"failed      {count:,}: {error}" for error, count in load.errors.most_common(_SHOWN_ERRORS)]
    if load.never_sent:
        lines.append(f"not sent    {load.never_sent:,} that were due: answers came more slowly than --rate asked")
    if not load.answered:
        return lines
    per_second = load.answered / load.seconds
    percentiles = ", ".join(f"p{rank:g} {percentile(load.latencies_ms, rank):,.2f} ms" for rank in (50, 90, 99))
    return [
        *lines,
        f"throughput  {per_second:,.1f} requests/s, {per_second * plan.images:,.1f} images/s",
        f"latency     {percentiles}, highest {max(load.latencies_ms):,.2f} ms",
        "",
        *_to_bars(load),
    ]


def _to_bars(load: Load) -> list[str]:
    """Return a line for each bucket; the fullest has the longest bar."""
    buckets = histogram(load.latencies_ms)
    fullest = max(bucket.requests for bucket in buckets)
    return [f"{'latency, ms':>17}  {'requests':>10}"] + [
        f"{bucket.low_ms:>7g} - {bucket.high_ms:<7g}  {bucket.requests:>10,}  "
        f"{'█' * round(_BAR_WIDTH * bucket.requests / fullest)}".rstrip()
        for bucket in buckets
    ]


def _to_json(identity: ModelIdentity, load: Load, plan: _Plan) -> str:
    latencies: dict[str, float] = {}
    if load.answered:
        latencies = {f"p{rank:g}": round(percentile(load.latencies_ms, rank), 3) for rank in (50, 90, 99)}
        latencies["highest"] = round(max(load.latencies_ms), 3)
    buckets = histogram(load.latencies_ms) if load.answered else []
    return json.dumps(
        {
            "model": identity.name,
            "version": identity.version,
            "images_per_request": plan.images,
            "in_flight": plan.in_flight,
            "rate_per_second": plan.rate,
            "seconds": round(load.seconds, 3),
            "answered": load.answered,
            "failed": load.failed,
            "never_sent": load.never_sent,
            "errors": dict(load.errors),
            "requests_per_second": round(load.answered / load.seconds, 3),
            "images_per_second": round(load.answered * plan.images / load.seconds, 3),
            "latency_ms": latencies,
            "histogram": [asdict(bucket) for bucket in buckets],
        }
    )
