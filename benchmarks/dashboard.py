"""Draw the panels of the Grafana dashboard from Prometheus' data, for those who run no Grafana.

    python -m benchmarks.dashboard --prometheus http://127.0.0.1:9090 --minutes 10 --picture dashboard.png

Asks exactly what the dashboard asks: `deploy/grafana/dashboards/cifarserve.json` is read, not copied.
"""

import argparse
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

DASHBOARD = Path(__file__).parent.parent / "deploy/grafana/dashboards/cifarserve.json"

_COLUMNS = 3
_POINTS = 120
_VARIABLES = {"$instance": ".*", "$model": ".*", "$__rate_interval": "30s"}  # everything, as Grafana begins
_TICKS = {
    "s": lambda seconds, _: f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s",
    "percentunit": lambda share, _: f"{share:.0%}",
    "bytes": lambda size, _: f"{size / 2**20:.0f} MiB",
}


@dataclass(frozen=True)
class Line:
    """One line of a panel: seconds since 1970, and a value for each."""

    name: str
    times: list[float]
    values: list[float]


@dataclass(frozen=True)
class Panel:
    """What the dashboard says of one panel; queries have their legend's pattern."""

    title: str
    unit: str
    stacked: bool
    queries: tuple[tuple[str, str], ...]


def panels(dashboard: Mapping[str, Any]) -> list[Panel]:
    """Return the dashboard's panels that are drawn over time."""
    return [
        Panel(
            panel["title"],
            panel["fieldConfig"]["defaults"]["unit"],
            "stacking" in panel["fieldConfig"]["defaults"]["custom"],
            tuple((_filled(target["expr"]), target["legendFormat"]) for target in panel["targets"]),
        )
        for panel in dashboard["panels"]
        if panel["type"] == "timeseries"
    ]


def legend(pattern: str, labels: Mapping[str, str]) -> str:
    """Return a line's name, as Grafana makes it of {{label}}s."""
    for name, value in labels.items():
        pattern = pattern.replace(f"{{{{{name}}}}}", value)
    return pattern


def ask(prometheus: str, panel: Panel, *, minutes: float) -> list[Line]:
    """Return the lines of a panel over the last `minutes`; values that are not numbers are left out."""
    now = time.time()
    lines = []
    for query, pattern in panel.queries:
        span = {"query": query, "start": now - minutes * 60, "end": now, "step": max(1, minutes * 60 / _POINTS)}
        with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(span)}") as page:
            found = json.load(page)["data"]["result"]
        for series in found:
            points = [(float(at), float(value)) for at, value in series["values"] if value != "NaN"]
            times, values = [at for at, _ in points], [value for _, value in points]
            lines.append(Line(legend(pattern, series["metric"]), times, values))
    return [line for line in lines if line.times]


def draw(drawn: Mapping[Panel, list[Line]], picture: Path, *, title: str) -> None:
    """Draw every panel with its lines into one picture."""
    rows = -(-len(drawn) // _COLUMNS)
    figure, grid = plt.subplots(rows, _COLUMNS, figsize=(6 * _COLUMNS, 3 * rows), layout="constrained", squeeze=False)
    figure.suptitle(title)
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    for axes, (panel, lines) in zip(grid.flat, drawn.items(), strict=False):
        _draw_panel(axes, panel, lines)
    figure.savefig(picture, dpi=70)
    plt.close(figure)


def _draw_panel(axes: Axes, panel: Panel, lines: list[Line]) -> None:
    now = max((line.times[-1] for line in lines), default=0.0)
    floor: dict[float, float] = {}  # how high the lines below a stacked one have come, at each time
    for line in lines:
        minutes = [(at - now) / 60 for at in line.times]
        below = [floor.get(at, 0.0) if panel.stacked else 0.0 for at in line.times]
        above = [low + value for low, value in zip(below, line.values, strict=True)]
        [drawn] = axes.plot(minutes, above, lw=1, label=line.name)
        if panel.stacked:
            axes.fill_between(minutes, below, above, color=drawn.get_color(), alpha=0.4)
            floor.update(zip(line.times, above, strict=True))
    axes.set_title(panel.title, fontsize=10)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.tick_params(labelsize=7)
    if panel.unit in _TICKS:
        axes.yaxis.set_major_formatter(FuncFormatter(_TICKS[panel.unit]))
    if lines:
        axes.legend(fontsize=6, ncols=2, loc="upper left")
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="gray")


def _filled(expression: str) -> str:
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def main() -> None:
    """Draw the picture; print how many panels have data."""
    mpl.use("Agg")
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="where Prometheus answers")
    parser.add_argument("--minutes", type=float, default=30.0, help="how far back")
    parser.add_argument("--picture", type=Path, default=Path("dashboard.png"), help="PNG file to write")
    arguments = parser.parse_args()
    drawn = {
        panel: ask(arguments.prometheus, panel, minutes=arguments.minutes)
        for panel in panels(json.loads(DASHBOARD.read_text()))
    }
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    draw(drawn, arguments.picture, title=f"cifarserve, the last {arguments.minutes:g} minutes (0 is now)")
    empty = [panel.title for panel, lines in drawn.items() if not lines]
    print(f"{arguments.picture}: {len(drawn) - len(empty)} of {len(drawn)} panels have data")
    if empty:
        print(f"  none: {', '.join(empty)}")


if __name__ == "__main__":
    main()
