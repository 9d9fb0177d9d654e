"""`cifarserve predict --sheet`: the file that a contact sheet is written to."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.errors import OutputNotWritten
from client.pipeline import Classified
from client.sources import Source

if TYPE_CHECKING:
    from client.sheet import ContactSheet


@dataclass
class Sheet:
    """A contact sheet of the pictures of `sources`, which are added in their order."""

    contact_sheet: "ContactSheet"
    sources: Iterator[Source]

    def add(self, batch: Sequence[Classified]) -> None:
        """Draw pictures; their files are read once more, for none is kept in memory until its answer is there."""
        for classified in batch:
            self.contact_sheet.add(classified.name, next(self.sources).read().data, classified.result)


@contextlib.contextmanager
def opened_sheet(path: Path | None, sources: Sequence[Source]) -> Iterator[Sheet | None]:
    """Yield an empty sheet that is written to `path` at the end, all at once; None where there is no path.

    Raises:
        OutputNotWritten: the file cannot be written; nothing was sent then.
        UsageError: there are more pictures than a sheet holds.
    """
    if path is None:
        yield None
        return
    from client.sheet import MAX_PICTURES, ContactSheet  # noqa: PLC0415  # Pillow is slow to import

    if len(sources) > MAX_PICTURES:
        raise click.UsageError(f"--sheet: expected at most {MAX_PICTURES:,} pictures, got {len(sources):,}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _said_plainly(path):
        temporary.touch()  # before the work, not after it
    try:
        sheet = Sheet(ContactSheet(len(sources)), iter(sources))
        yield sheet
        with _said_plainly(path):
            temporary.write_bytes(sheet.contact_sheet.to_png())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _said_plainly(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputNotWritten(f"{path}: {exc.strerror}") from exc
