"""The code blocks of a page: which are executed, and what they should print."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

EXECUTED = "<!-- executed -->"

_BLOCK = re.compile(
    r"(?:^(?P<mark><!-- [^\n]* -->)\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: what stands behind the fence.
        text: what stands between the fences.
        mark: the comment above it; empty when there is none.
    """

    language: str
    text: str
    mark: str

    @property
    def is_executed(self) -> bool:
        """Whether the page says that it can be relied on."""
        return self.mark == EXECUTED


@dataclass(frozen=True)
class Command:
    """A line that a person types, and what the page says that it prints; empty: nothing is said."""

    line: str
    printed: str


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page, in their order."""
    return [Block(found["language"], found["text"], found["mark"] or "") for found in _BLOCK.finditer(page)]


def commands_of(console: str) -> Iterator[Command]:
    """Yield the commands of a console block: lines that begin with "$ ", each with the lines below it."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        line, _, printed = part.partition("\n")
        yield Command(line, printed)
