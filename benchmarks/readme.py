"""Write the README's table of figures from the benchmark's last run and the shipped cards.

python -m benchmarks.readme
"""

import json
from pathlib import Path

from benchmarks.running import ROOT

README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks/results/serving.json"

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
        lines.append(f"| {row['name']} | {row['measured']:,.2f} {row['unit']}{ratio}{bound} |")
    figures = results["figures"]
    lines.append(
        f"| ready after the start, both models | {figures['start_seconds']:.1f} s, {figures['rss_mib']:,.0f} MiB |"
    )
    return "\n".join(lines) + "\n"


def replace_table(text: str, table: str) -> str:
    """Return the README's text with `table` between its marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table}{_END}{after}"


if __name__ == "__main__":
    Path(README).write_text(replace_table(README.read_text(), render()))
