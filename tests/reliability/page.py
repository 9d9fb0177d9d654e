"""`docs/reliability.md`, and the promises in the README: the figures of the last full run of each test.

    python -m tests.reliability.page

Full runs keep their rows in `benchmarks/results/reliability.json`, also when only some tests were run.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from benchmarks.usage import machine
from tests.conftest import ROOT

PAGE = ROOT / "docs/reliability.md"
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks/results/reliability.json"

_BEGIN, _END = "<!-- promises: written by python -m tests.reliability.page -->\n", "<!-- end of promises -->\n"
_INTRODUCTION = """\
# Promises about failures

`make soak` drives real server processes over real sockets, counts on both sides (the clients, and the server's
metrics), and writes this page. `make test` runs the same tests for a few seconds each. Measured on {machines}.

"""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        test: the test's file and name; its newest row replaces the older one.
        promise: what the user is promised.
        tested: how it is tested, with amounts.
        figure: what was measured, with units.
        machine: where.
    """

    test: str
    promise: str
    tested: str
    figure: str
    machine: str = ""


def save(rows: Iterable[Row]) -> None:
    """Keep the rows of a run; the rows of tests that it did not run stay as they are."""
    new = [{**asdict(row), "machine": machine()} for row in rows]
    tests = {row["test"] for row in new}
    kept = [row for row in _saved() if row["test"] not in tests]
    RESULTS.write_text(json.dumps(sorted(kept + new, key=lambda row: row["test"]), indent=2) + "\n")


def render(rows: Iterable[Row]) -> str:
    """Return the page."""
    rows = list(rows)
    lines = ["| promise | how it is tested | figure |", "| --- | --- | --- |"]
    lines += [f"| {row.promise} | {row.tested} (`{row.test.split('::')[0]}`) | {row.figure} |" for row in rows]
    machines = " and ".join(sorted({row.machine for row in rows}))
    return _INTRODUCTION.format(machines=machines) + "\n".join(lines) + "\n"


def replace_promises(text: str, rows: Iterable[Row]) -> str:
    """Return the README's text with promises and figures between its marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    lines = ["| promise | figure |", "| --- | --- |", *(f"| {row.promise} | {row.figure} |" for row in rows)]
    return f"{before}{_BEGIN}" + "\n".join(lines) + f"\n{_END}{after}"


def _saved() -> list[dict[str, str]]:
    saved: list[dict[str, str]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return saved


if __name__ == "__main__":
    saved = [Row(**row) for row in _saved()]
    PAGE.write_text(render(saved))
    README.write_text(replace_promises(README.read_text(), saved))
