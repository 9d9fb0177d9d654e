"""`cifarserve health`: does the server answer, or will it soon."""

import asyncio
import contextlib
import time

import click

from client.commands.exits import Exit
from client.commands.group import Connect
from client.commands.values import Finite
from client.errors import DeadlineExceeded, NotFound, Overloaded, ServerUnavailable

_POLL_SECONDS = 0.1
_NOT_YET = (ServerUnavailable, NotFound, Overloaded, DeadlineExceeded)  # what a server that starts goes through

_EPILOG = """\b
Exit status: 0 when it is SERVING, 3 when it is not, or cannot be reached. See cifarserve --help for the others.

\b
Examples:
  cifarserve health --wait-seconds 60 && cifarserve predict cat.jpg
  cifarserve --timeout-seconds 2 health --service model/whitened
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--service", metavar="NAME", default="", show_default="the whole server", help="What to ask about: model/NAME."
)
@click.option(
    "--wait-seconds",
    metavar="N",
    type=Finite(min=0),
    default=0.0,
    show_default=True,
    help="Ask again until the service answers, for this long; the last check may add --timeout-seconds.",
)
@click.pass_context
def health(ctx: click.Context, *, service: str, wait_seconds: float) -> None:
    """Say whether the server answers requests.

    Prints SERVING and exits with 0, or prints NOT_SERVING and exits with 3. A server that cannot be
    reached is an error on standard error, and 3 too.
    """
    serving = asyncio.run(_check(ctx.obj, service, wait_seconds))
    click.echo("SERVING" if serving else "NOT_SERVING")
    if not serving:
        ctx.exit(Exit.NOT_NOW)


async def _check(connect: Connect, service: str, wait_seconds: float) -> bool:
    give_up = time.monotonic() + wait_seconds
    async with connect() as client:
        while time.monotonic() < give_up:
            with contextlib.suppress(*_NOT_YET):
                if await client.health(service):
                    return True
            await asyncio.sleep(_POLL_SECONDS)
        return await client.health(service)
