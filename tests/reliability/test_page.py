from tests.reliability.page import Row, render, replace_promises

ROWS = [Row("test_drain.py::test_sigterm", "0 lost", "20 SIGTERMs", "0 of 4,238", "a machine")]


def test_page_has_a_line_for_each_promise() -> None:
    """Promise, how it is tested, in which file, figure and machine are all on the page."""
    page = render(ROWS)

    assert "| 0 lost | 20 SIGTERMs (`test_drain.py`) | 0 of 4,238 |" in page
    assert "Measured on a machine." in page


def test_readme_keeps_all_but_its_promises() -> None:
    """Only what stands between the marks is replaced."""
    begin, end = "<!-- promises: written by python -m tests.reliability.page -->\n", "<!-- end of promises -->\n"
    text = f"before\n{begin}old\n{end}after\n"

    assert replace_promises(text, ROWS).startswith("before\n" + begin)
    assert replace_promises(text, ROWS).endswith("| 0 lost | 0 of 4,238 |\n" + end + "after\n")
    assert "old" not in replace_promises(text, ROWS)
