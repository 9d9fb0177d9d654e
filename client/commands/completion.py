"""`cifarserve completion`, what the shell offers for names of models, and the option that names one."""

import asyncio

import click
from click.shell_completion import CompletionItem, get_completion_class

from client.client import ClassifierClient
from client.commands.credentials import read_credentials
from client.credentials import Credentials
from client.errors import ClientError

SHELLS = ("bash", "zsh", "fish")

# A person waits at the keyboard, and does not know that a server is asked.
_TIMEOUT_SECONDS = 1.0
_VARIABLE = "_CIFARSERVE_COMPLETE"

_EPILOG = """\b
Once and for all, in bash, zsh and fish:
  echo 'eval "$(cifarserve completion bash)"' >> ~/.bashrc
  echo 'eval "$(cifarserve completion zsh)"' >> ~/.zshrc
  cifarserve completion fish > ~/.config/fish/completions/cifarserve.fish
"""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print what makes a shell complete cifarserve's commands, options, files and models' names.

    Names of models are asked of the server at --target, if it answers within a second.
    """
    shell_completion = get_completion_class(shell)
    if shell_completion is None:
        raise click.UsageError(f"expected one of {', '.join(SHELLS)}, got {shell}")
    main = ctx.find_root().command
    click.echo(shell_completion(main, {}, "cifarserve", _VARIABLE).source())


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Return the server's models whose names begin with what was typed; none while it does not answer."""
    options = ctx.find_root().params
    try:
        names = asyncio.run(_names(options["target"], read_credentials(**options)))
    except (ClientError, click.UsageError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


async def _names(target: str, credentials: Credentials) -> list[str]:
    async with ClassifierClient(target, timeout_seconds=_TIMEOUT_SECONDS, credentials=credentials) as client:
        return [model.name for model in await client.list_models()]


model_option = click.option(
    "--model",
    metavar="NAME",
    default="",
    show_default="the server's default",
    shell_complete=complete_model,
    help="Model to ask.",
)
