"""Write the README's table of figures from the benchmarks' last runs and the shipped cards.

python -m benchmarks.readme
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.running import ROOT

README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks/results/serving.json"
BULK_RESULTS = ROOT / "benchmarks/results/client.json"

_BEGIN, _END = "<!-- figures: written by python -m benchmarks.readme -->\n", "<!-- end of figures -->\n"


def render() -> str:
    """Return the table: the models' quality, then every row of the benchmark with its ratio to the ceiling."""
    results = json.loads(RESULTS.read_text())
    lines = [f"| measured on {results['machine']} | |", "| --- | --- |"]
    for path in sorted((ROOT / "models/pretrained").glob("*/*/model.json")):
        card = json.loads(path.read_text())
        test = card["test"]
        lines.append(
            f"| test accuracy of `{card['model']}`, {card['parameters']:,} weights |"
            f" {test['accuracy']:.2%} of {test['images']:,} images, one pass each; ECE {test['ece']:.3f} |"
        )
    for row in results["rows"]:
        ratio = f", {row['ratio']:.2f} of the ceiling" if row["bound"] else ""
        bound = f" (aim {row['bound']}{'' if row['met'] else ', missed'})" if row["bound"] else ""
        lines.append(f"| {row['name']} | {_number(row['measured'])} {row['unit']}{ratio}{bound} |")
    lines += [_bulk(row) for row in json.loads(BULK_RESULTS.read_text())["rows"]]
    figures = results["figures"]
    lines.append(
        f"| ready after the start, both models | {figures['start_seconds']:.1f} s, {figures['rss_mib']:,.0f} MiB |"
    )
    return "\n".join(lines) + "\n"


def _bulk(row: dict[str, Any]) -> str:
    met = "" if row["met"] else ", missed"
    return (
        f"| `cifarserve predict` on 10,000 files, {row['model']}, over the fastest load |"
        f" {_number(row['predict_images_per_second'])} images/s, {row['ratio']:.2f} of the ceiling (aim >= 0.8{met}) |"
    )


def _number(value: float) -> str:
    """Return three digits or more: nobody reads the others."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004


def replace_table(text: str, table: str) -> str:
    """Return the README's text with `table` between its marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table}{_END}{after}"


if __name__ == "__main__":
    Path(README).write_text(replace_table(README.read_text(), render()))
