import pytest

from server.telemetry.request_id import request_id


def test_callers_id_is_kept() -> None:
    """A request is known here by the name that its caller gave it."""
    assert request_id((("user-agent", "x"), ("x-request-id", "order-17/a"))) == "order-17/a"


@pytest.mark.parametrize("shown", ["", "with blank", "line\nbreak", "ä", "x" * 129, b"bytes"])
def test_id_that_could_confuse_a_log_is_replaced(shown: str | bytes) -> None:
    """What is long, not printable, or missing is replaced by an id of 32 hexadecimal digits, new each time."""
    metadata: tuple[tuple[str, str | bytes], ...] = (("x-request-id", shown),)
    first, second = request_id(metadata), request_id(metadata)

    assert first != second
    assert len(first) == len(second) == 32
    assert int(first, 16) >= 0
