import csv
import io
import json

import pytest

from client.commands.output import OutputFormat, printable, to_output
from client.pipeline import Classified
from client.results import ImageResult, ModelIdentity, Prediction

MODEL = ModelIdentity("whitened", 2, "ab" * 32)
CAT = Classified("cat, my.png", ImageResult((Prediction("cat", 3, 0.75), Prediction("dog", 5, 0.2))), MODEL)
BROKEN = Classified("broken.png", ImageResult((), "not a picture"), None)


def test_table() -> None:
    """Names are as wide as the longest, and the models stand below."""
    output = to_output(OutputFormat.TABLE, top_k=2, names=[CAT.name, BROKEN.name])

    assert output.begin() == []
    assert output.lines([CAT, BROKEN]) == [
        "cat, my.png  cat         75.0%  dog         20.0%",
        "broken.png   error: not a picture",
    ]
    assert output.end([MODEL]) == ["whitened version 2 (sha256 abababab…)"]


def test_json_lines() -> None:
    """Each line is an object that stands alone."""
    output = to_output(OutputFormat.JSONL, top_k=2, names=[])

    cat, broken = map(json.loads, output.lines([CAT, BROKEN]))

    assert (cat["file"], cat["predictions"][1]) == (CAT.name, {"label": "dog", "index": 5, "probability": 0.2})
    assert broken == {"file": "broken.png", "error": "not a picture"}
    assert (output.begin(), output.end([MODEL])) == ([], [])


def test_csv() -> None:
    """A reader of CSV finds a column for each label, quoted where it must be."""
    output = to_output(OutputFormat.CSV, top_k=3, names=[])
    text = "\n".join([*output.begin(), *output.lines([CAT, BROKEN]), *output.end([MODEL])])

    cat, broken = csv.DictReader(io.StringIO(text))

    assert (cat["file"], cat["label_1"], cat["probability_2"], cat["label_3"]) == ("cat, my.png", "cat", "0.2", "")
    assert (cat["model"], cat["version"], cat["error"]) == ("whitened", "2", "")
    assert (broken["label_1"], broken["error"]) == ("", "not a picture")


@pytest.mark.parametrize("output_format", OutputFormat)
def test_a_name_cannot_break_the_format(output_format: OutputFormat) -> None:
    """A file's name with a line feed, a terminal's command or bad UTF-8 is still one line of text."""
    picture = Classified("a\nb\x1b[2J\udcff.png", CAT.result, MODEL)

    [line] = to_output(output_format, top_k=2, names=[picture.name]).lines([picture])

    assert line.isprintable()
    line.encode()


def test_printable_names_stay_as_they_are() -> None:
    """Letters of any language are no danger."""
    assert printable("Kätzchen 猫.png") == "Kätzchen 猫.png"
    assert printable("a\nb") == r"a\nb"
