"""--help is the manual: everything is explained, and its examples are command lines that work."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from client.__main__ import main


def commands(path: tuple[str, ...] = (), command: click.Command = main) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(["cifarserve", *path]), command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands((*path, name), below)


def examples() -> list[str]:
    """Every command line of cifarserve in an epilog, without what the shell does with its output."""
    text = "\n".join(command.epilog or "" for _, command in commands())
    lines = re.findall(r"^  (cifarserve .*)$", text, re.MULTILINE)
    return [part for line in lines for part in re.split(r"\s*(?:&&|[|<>]+[^&]*)\s*", line) if part]


def parse(command: click.Command, arguments: list[str]) -> None:
    """Parse as the command line does, and run nothing."""
    context = command.make_context("cifarserve", arguments)
    rest = [*context._protected_args, *context.args]
    if isinstance(command, click.Group) and rest:
        _, below, rest = command.resolve_command(context, rest)
        assert below is not None
        parse(below, rest)


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_explained(path: str) -> None:
    """A sentence for each command, and one for each option."""
    command = COMMANDS[path]
    unexplained = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]

    assert command.help
    assert unexplained == []


@pytest.mark.parametrize("name", [name for name, command in main.commands.items() if name != "completion"])
def test_every_command_has_examples(name: str) -> None:
    """People read examples first."""
    assert "Examples:" in (main.commands[name].epilog or "")


@pytest.mark.parametrize("example", examples())
def test_examples_are_command_lines(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the manual shows is what the command line takes."""
    monkeypatch.chdir(tmp_path)
    Path("incoming").mkdir()
    Path("holiday-photos").mkdir()
    Path("holiday-photos/cat.jpg").touch()

    parse(main, shlex.split(example)[1:])
