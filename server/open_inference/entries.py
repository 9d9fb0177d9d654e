"""The names that this protocol knows: each model appears as `<model>` for pixels and `<model>_encoded` for files."""

from collections.abc import Callable
from typing import NamedTuple

from server.errors import InvalidArgument

_SUFFIX = "_encoded"
_MOST_DIGITS = 18  # of a number that fits into 63 bits


class Entry(NamedTuple):
    """One of the two names of a model; an empty model is the default one."""

    model: str
    is_encoded: bool

    def name_of(self, model: str) -> str:
        """Return how this protocol names `model`, which answers for this entry."""
        return model + _SUFFIX if self.is_encoded else model


def find_entry(name: str, *, exists: Callable[[str], bool]) -> Entry:
    """Return the entry of a name; a model whose own name ends so comes before the other name of another one."""
    model = name.removesuffix(_SUFFIX)
    if model != name and exists(model) and not exists(name):
        return Entry(model, is_encoded=True)
    return Entry(name, is_encoded=False)


def entries_of(model: str) -> tuple[Entry, Entry]:
    """Return both entries of a model."""
    return Entry(model, is_encoded=False), Entry(model, is_encoded=True)


def to_version(text: str) -> int:
    """Return a version's number; 0, whichever is served, when the text is empty.

    Raises:
        InvalidArgument: it is no decimal number from 1.
    """
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text)):
        raise InvalidArgument(f"version: expected a decimal number from 1, or nothing, got {text[:40]!r}")
    return int(text)
