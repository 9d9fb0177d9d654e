import pytest

from server.errors import InvalidArgument
from server.open_inference.entries import Entry, find_entry, to_version


@pytest.mark.parametrize(
    ("name", "models", "expected"),
    [
        ("quick", {"quick"}, Entry("quick", is_encoded=False)),
        ("quick_encoded", {"quick"}, Entry("quick", is_encoded=True)),
        ("quick_encoded", {"quick", "quick_encoded"}, Entry("quick_encoded", is_encoded=False)),
        ("nobody_encoded", {"quick"}, Entry("nobody_encoded", is_encoded=False)),
        ("_encoded", {"quick"}, Entry("_encoded", is_encoded=False)),
        ("", {"quick"}, Entry("", is_encoded=False)),
    ],
)
def test_each_model_has_two_names(name: str, models: set[str], expected: Entry) -> None:
    """A name with the suffix means files for the model without it, unless a model has that very name."""
    assert find_entry(name, exists=models.__contains__) == expected


def test_an_answer_bears_the_name_that_was_asked_for() -> None:
    """The name of an entry is that of its model, with the suffix for files."""
    assert Entry("", is_encoded=False).name_of("quick") == "quick"
    assert Entry("quick", is_encoded=True).name_of("quick") == "quick_encoded"


@pytest.mark.parametrize(("text", "version"), [("", 0), ("1", 1), ("0012", 12)])
def test_versions_are_decimal_numbers(text: str, version: int) -> None:
    """Nothing stands for the version that is served."""
    assert to_version(text) == version


@pytest.mark.parametrize("text", ["0", "-1", "newest", "1.0", "\u0661", "9" * 30])
def test_other_texts_are_no_versions(text: str) -> None:
    """What is no number from 1 is refused and not taken for the version that is served."""
    with pytest.raises(InvalidArgument, match="expected a decimal number from 1, or nothing, got"):
        to_version(text)
