import io
import json
import threading

import pytest

from server.metrics import PredictRecord
from server.telemetry import access_log
from server.telemetry.access_log import AccessLog, to_line
from server.telemetry.record import RequestRecord

ANSWER = PredictRecord(
    "quick", 2, ["cat", "dog"], confidence=1.5, invalid=1, failed=0, decode_seconds=0.0005, total_seconds=0.004,
    queue_seconds=0.001, compute_seconds=0.002,
)  # fmt: skip


def record(**values: object) -> RequestRecord:
    made = RequestRecord("id-1", "a.B/Predict", "ipv4:10.0.0.1:5", "shop", 1_700_000_000_123_000_000)
    for name, value in {"code": "OK", "seconds": 0.0051, **values}.items():
        setattr(made, name, value)
    return made


class StuckOutput(io.BytesIO):
    """Whoever reads it has stopped.

    Attributes:
        gate: while it is cleared, nothing can be written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def write(self, data: object, /) -> int:
        self.gate.wait(30)
        return super().write(data)  # type: ignore[arg-type]


def test_line_says_who_what_and_how_long() -> None:
    """One object on one line; durations in milliseconds; how many pictures, and nothing of what they show."""
    made = record(parent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    made.note(ANSWER)
    line = to_line(made)

    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "timestamp": "2023-11-14T22:13:20.123+00:00",
        "event": "request",
        "id": "id-1",
        "peer": "ipv4:10.0.0.1:5",
        "method": "a.B/Predict",
        "code": "OK",
        "total_ms": 5.1,
        "caller": "shop",
        "trace_id": "a" * 32,
        "model": "quick",
        "version": 2,
        "images": 3,
        "decode_ms": 0.5,
        "queue_ms": 1.0,
        "compute_ms": 2.0,
    }


def test_stream_of_several_requests_says_how_many() -> None:
    """The timings of one of many would say nothing of the others."""
    made = record()
    for _ in range(3):
        made.note(ANSWER)

    assert json.loads(to_line(made))["answers"] == 3
    assert "queue_ms" not in json.loads(to_line(made))


def test_request_that_was_refused_has_a_line_without_timings() -> None:
    """No model was asked."""
    assert "model" not in json.loads(to_line(record(code="UNAUTHENTICATED")))


def test_share_of_the_requests_is_chosen() -> None:
    """Chance decides for each."""
    draws = iter([0.0, 0.09, 0.1, 0.99])
    log = AccessLog(0.1, output=io.BytesIO(), chance=lambda: next(draws))

    assert [log.wants_one() for _ in range(4)] == [True, True, False, False]


def test_lines_are_written_in_order_and_all_at_the_end() -> None:
    """Leaving writes what waits."""
    output = io.BytesIO()
    with AccessLog(1, output=output) as log:
        for number in range(100):
            log.write(record(id=str(number)))

    assert [json.loads(line)["id"] for line in output.getvalue().splitlines()] == list(map(str, range(100)))


def test_reader_that_stopped_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is counted as lost, writing never waits, and neither does the end for long."""
    monkeypatch.setattr(access_log, "_MAX_WAITING_LINES", 10)
    lost: list[int] = []
    output = StuckOutput()
    with AccessLog(1, output=output, on_lost=lambda: lost.append(1)) as log:
        for _ in range(30):
            log.write(record())
    output.gate.set()

    assert 10 <= len(lost) <= 20  # the thread may hold as many as may wait
