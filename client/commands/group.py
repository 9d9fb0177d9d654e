"""What all sub-commands share: how they reach the server, and one line and an exit status for every failure."""

import os
import sys
from dataclasses import dataclass

import click

from client.admin import ModelAdminClient
from client.client import ClassifierClient
from client.commands.exits import EXIT_OF, Exit
from client.credentials import NO_CREDENTIALS, Credentials
from client.errors import ClientError


@dataclass(frozen=True)
class Connect:
    """How the commands reach the server: what the options before the sub-command say."""

    target: str
    timeout_seconds: float
    credentials: Credentials = NO_CREDENTIALS

    def __call__(self) -> ClassifierClient:
        """Return a client that classifies; it connects when it is entered."""
        return ClassifierClient(self.target, timeout_seconds=self.timeout_seconds, credentials=self.credentials)

    def once(self) -> ClassifierClient:
        """Return a client that tries nothing again."""
        return ClassifierClient(
            self.target, timeout_seconds=self.timeout_seconds, max_attempts=1, credentials=self.credentials
        )

    def admin(self) -> ModelAdminClient:
        """Return a client that decides what is served; it connects when it is entered."""
        return ModelAdminClient(self.target, timeout_seconds=self.timeout_seconds, credentials=self.credentials)


class CommandGroup(click.Group):
    """Commands whose failures are one line on standard error; nobody sees a stack trace."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the sub-command."""
        try:
            return super().invoke(ctx)
        except ClientError as exc:
            click.echo(f"cifarserve: {exc}", err=True)
            ctx.exit(EXIT_OF[type(exc)])
        except KeyboardInterrupt:
            click.echo("cifarserve: interrupted", err=True)
            ctx.exit(Exit.INTERRUPTED)
        except BrokenPipeError:
            _discard_output()
            ctx.exit(Exit.NOBODY_READS)
        except OSError as exc:  # files that are read are the commands' business; this one is written
            _discard_output()
            click.echo(f"cifarserve: standard output: {exc.strerror}", err=True)
            ctx.exit(Exit.NO_OUTPUT)


def _discard_output() -> None:
    """Let the interpreter's last flush succeed, as the Python documentation on SIGPIPE advises."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
