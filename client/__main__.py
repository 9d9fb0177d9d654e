"""`cifarserve`: the command line of the client."""

import click

from client.commands.bench import bench
from client.commands.completion import completion
from client.commands.credentials import credential_options, is_readable_by_others
from client.commands.exits import describe_exits
from client.commands.group import CommandGroup, Connect
from client.commands.health import health
from client.commands.models import models
from client.commands.predict import predict
from client.commands.values import Finite
from client.connection import DEFAULT_TARGET, DEFAULT_TIMEOUT_SECONDS
from client.credentials import Credentials

_EPILOG = f"""\b
Environment:
  CIFARSERVE_TARGET, CIFARSERVE_TIMEOUT_SECONDS take the place of the options of the same names

\b
Exit status:
{describe_exits()}

\b
Examples:
  cifarserve predict cat.jpg holiday-photos/
  cifarserve --target gpu-1:50051 health --wait-seconds 60
  cifarserve --target dns:///cifarserve.default.svc:50051 bench --seconds 30
"""


@click.group(
    cls=CommandGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--target",
    metavar="HOST:PORT",
    envvar="CIFARSERVE_TARGET",
    default=DEFAULT_TARGET,
    show_default=True,
    show_envvar=True,
    help="Where the server listens.",
)
@click.option(
    "--timeout-seconds",
    metavar="N",
    type=Finite(min=0, min_open=True),
    envvar="CIFARSERVE_TIMEOUT_SECONDS",
    default=DEFAULT_TIMEOUT_SECONDS,
    show_default=True,
    show_envvar=True,
    help="How long one request may take, its retries included.",
)
@credential_options
@click.pass_context
def main(ctx: click.Context, target: str, timeout_seconds: float, credentials: Credentials) -> None:
    """Ask a cifarserve server what is in a picture.

    The labels are those of CIFAR-10: airplane, automobile, bird, cat, deer, dog, frog, horse, ship and
    truck. Start a server with cifarserve-server.
    """
    if is_readable_by_others(target, credentials):
        click.echo("cifarserve: warning: without --tls the token can be read on its way", err=True)
    ctx.obj = Connect(target, timeout_seconds, credentials)


main.add_command(predict)
main.add_command(models)
main.add_command(health)
main.add_command(bench)
main.add_command(completion)


if __name__ == "__main__":
    main(prog_name="cifarserve")
