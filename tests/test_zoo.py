"""The page of the networks says what their cards say."""

from pathlib import Path

from benchmarks.zoo import command, newest_versions, page
from tests.models import cards


def test_page_has_a_line_for_each_card() -> None:
    """A model's line holds the figures of its card, and what its server did in a second."""
    card = cards.make_card(parameters=145_578)

    text = page([(card, 1234.5)])

    [line] = [line for line in text.splitlines() if line.startswith("| `quick`")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    accuracy = f"{card.test.accuracy:.2%}"
    assert cells == ["`quick` 1", "`quick`", "best", "145,578", "1", "0", accuracy, "0.0200", "1,234"]
    assert "cifarserve-train --architecture quick\n" in text


def test_command_has_no_folders_of_this_machine() -> None:
    """What is repeated elsewhere names no folder that is only here."""
    card = cards.make_card()
    given = "cifarserve-train --data /here --architecture quick --repository=/there --epochs 3 --run-folder /else"
    card = card.model_copy(update={"training": card.training.model_copy(update={"command": given})})

    assert command(card) == "cifarserve-train --architecture quick --epochs 3"


def test_newest_version_of_each_model_is_shown(tmp_path: Path) -> None:
    """Of each model the newest version counts, and the first repository wins where two have a model."""
    for path in ("one/a/1", "one/a/2", "two/a/7", "two/b/1"):
        (tmp_path / path).mkdir(parents=True)

    found = list(newest_versions([tmp_path / "one", tmp_path / "two"]))

    assert found == [tmp_path / "one" / "a" / "2", tmp_path / "two" / "b" / "1"]
