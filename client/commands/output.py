"""How `cifarserve predict` writes its answers: as a table, JSON lines or CSV. Pure: answers in, lines of text out."""

import csv
import enum
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from client.pipeline import Classified
from client.results import ModelIdentity, Prediction

_LABEL_WIDTH = len("automobile")  # the longest of CIFAR-10; a longer one only loses its alignment


class OutputFormat(enum.StrEnum):
    """What `--output` takes."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


class Output(Protocol):
    """A format: lines before the first picture, for each batch of them, and after the last."""

    def begin(self) -> list[str]:
        """Return what stands above the pictures."""
        ...

    def lines(self, batch: Iterable[Classified]) -> list[str]:
        """Return a line for each picture."""
        ...

    def end(self, models: Iterable[ModelIdentity]) -> list[str]:
        """Return what stands below the pictures; `models` answered."""
        ...


@dataclass
class Table:
    """Aligned columns for a person: name, then labels and probabilities; last, the models that answered."""

    name_width: int

    def begin(self) -> list[str]:
        """Return nothing: the columns explain themselves."""
        return []

    def lines(self, batch: Iterable[Classified]) -> list[str]:
        """Return a row for each picture."""
        return [self._row(classified) for classified in batch]

    def end(self, models: Iterable[ModelIdentity]) -> list[str]:
        """Say which weights answered."""
        return [f"{model.name} version {model.version} (sha256 {model.digest[:8]}…)" for model in models]

    def _row(self, classified: Classified) -> str:
        name = printable(classified.name).ljust(self.name_width)
        if classified.result.error is not None:
            return f"{name}  error: {classified.result.error}"
        return "  ".join([name, *map(_to_cell, classified.result.predictions)])


class JsonLines:
    """One JSON object per picture and line."""

    def begin(self) -> list[str]:
        """Return nothing."""
        return []

    def lines(self, batch: Iterable[Classified]) -> list[str]:
        """Return an object for each picture."""
        return [json.dumps(_to_object(classified)) for classified in batch]

    def end(self, models: Iterable[ModelIdentity]) -> list[str]:  # noqa: ARG002  # each line has its model
        """Return nothing."""
        return []


@dataclass
class Csv:
    """A header and one record per picture, as RFC 4180 says, with line feeds alone."""

    top_k: int

    def begin(self) -> list[str]:
        """Return the header."""
        ranks = range(1, self.top_k + 1)
        best = [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
        return _to_records([["file", *best, "model", "version", "error"]])

    def lines(self, batch: Iterable[Classified]) -> list[str]:
        """Return a record for each picture."""
        return _to_records(self._fields(classified) for classified in batch)

    def end(self, models: Iterable[ModelIdentity]) -> list[str]:  # noqa: ARG002  # each record has its model
        """Return nothing."""
        return []

    def _fields(self, classified: Classified) -> list[str]:
        best = [
            field
            for prediction in classified.result.predictions
            for field in (prediction.label, f"{prediction.probability:.7g}")
        ]
        best += [""] * (2 * self.top_k - len(best))
        model = [classified.model.name, str(classified.model.version)] if classified.model else ["", ""]
        return [printable(classified.name), *best, *model, classified.result.error or ""]


def to_output(output_format: OutputFormat, *, top_k: int, names: Iterable[str]) -> Output:
    """Return a format for pictures of these names, as far as they are known."""
    if output_format is OutputFormat.JSONL:
        return JsonLines()
    if output_format is OutputFormat.CSV:
        return Csv(top_k)
    return Table(max((len(printable(name)) for name in names), default=0))


def printable(name: str) -> str:
    """Return a file's name as one line of text: a name may hold line feeds, a terminal's commands, or bad UTF-8."""
    return name if name.isprintable() else "".join(map(_to_printable, name))


def _to_printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _to_records(rows: Iterable[Sequence[str]]) -> list[str]:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n").split("\n")


def _to_object(classified: Classified) -> dict[str, object]:
    if classified.model is None or classified.result.error is not None:
        return {"file": classified.name, "error": classified.result.error}
    return {
        "file": classified.name,
        "predictions": [
            {"label": best.label, "index": best.index, "probability": _seven_digits(best.probability)}
            for best in classified.result.predictions
        ],
        "model": classified.model.name,
        "version": classified.model.version,
        "digest": classified.model.digest,
    }


def _seven_digits(probability: float) -> float:
    """Return what the 32-bit number on the wire holds; the rest would be noise."""
    return float(f"{probability:.7g}")


def _to_cell(prediction: Prediction) -> str:
    return f"{prediction.label:<{_LABEL_WIDTH}} {prediction.probability:6.1%}"
