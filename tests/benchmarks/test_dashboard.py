import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.dashboard import DASHBOARD, Line, Panel, ask, draw, legend, panels

PANEL = Panel("Requests", "reqps", stacked=True, queries=(("sum by (code) (up)", "{{code}} answers"),))


class FakePrometheus(http.server.BaseHTTPRequestHandler):
    """Answers every range query with one series of two numbers and one that is none."""

    def do_GET(self) -> None:
        series = {"metric": {"code": "OK"}, "values": [[10, "1"], [20, "NaN"], [30, "2.5"]]}
        body = json.dumps({"data": {"result": [series, {"metric": {}, "values": [[10, "NaN"]]}]}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the library's
        pass


@pytest.fixture
def prometheus() -> Iterator[str]:
    """The address of a fake Prometheus."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakePrometheus) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_panel_over_time_is_read() -> None:
    """What Grafana would fill in is filled in, so that Prometheus understands it."""
    found = panels(json.loads(DASHBOARD.read_text()))

    assert len(found) > 20
    assert not any("$" in query for panel in found for query, _ in panel.queries)


def test_lines_have_their_names_and_only_numbers(prometheus: str) -> None:
    """A moment without traffic is a gap, and a line of gaps is none."""
    assert ask(prometheus, PANEL, minutes=1) == [Line("OK answers", [10, 30], [1, 2.5])]
    assert legend("{{model}} x{{batch_size}}", {"model": "quick", "batch_size": "8"}) == "quick x8"


def test_picture_is_drawn_also_without_data(tmp_path: Path) -> None:
    """Stacked, plain and empty panels stand in one picture."""
    plain = Panel("Latency", "s", stacked=False, queries=())
    empty = Panel("Memory", "bytes", stacked=False, queries=())
    lines = [Line("a", [0, 60], [1, 2]), Line("b", [0, 60], [3, 4])]

    draw({PANEL: lines, plain: lines, empty: []}, tmp_path / "dashboard.png", title="test")

    with Image.open(tmp_path / "dashboard.png") as picture:
        assert picture.width > 1000
