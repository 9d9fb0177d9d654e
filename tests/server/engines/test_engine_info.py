import pytest

from server.engines import EngineInfo


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 0.001), (2, 0.002), (3, 0.003), (4, 0.004), (6, 0.006), (8, 0.008), (20, 0.008)]
)
def test_pass_seconds_lie_between_what_was_measured(size: int, expected: float) -> None:
    """A size that was not measured costs what its neighbours suggest; a larger one than all, what the largest costs."""
    info = EngineInfo("cpu", "fp32", "blocked", batch_seconds={1: 0.001, 2: 0.002, 4: 0.004, 8: 0.008})

    assert info.pass_seconds(size) == pytest.approx(expected)
