"""Exit statuses: every error has one, and --help and the page explain all of them."""

import re

from client.commands.exits import EXIT_OF, Exit
from client.errors import ClientError
from tests.client import commandline
from tests.conftest import ROOT


def test_every_error_has_an_exit_status() -> None:
    """A new ClientError cannot be forgotten in the table."""
    assert set(EXIT_OF) == set(ClientError.__subclasses__())


async def test_help_documents_every_exit_status() -> None:
    """Every status that a command can end with is explained in --help, in the words of the table."""
    finished = await commandline.run("--help", target="127.0.0.1:1")

    documented = re.findall(r"^ +(\d+) +(.+)$", finished.stdout, re.MULTILINE)
    assert documented == [(str(each.value), each.meaning) for each in Exit]


def test_the_page_documents_every_exit_status() -> None:
    """So does the client's page."""
    page = (ROOT / "docs" / "client.md").read_text()

    documented = re.findall(r"^\| (\d+) \| (.+?) \|$", page, re.MULTILINE)
    assert documented == [(str(each.value), each.meaning) for each in Exit]
