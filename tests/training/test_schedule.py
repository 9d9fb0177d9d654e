import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.schedule import lr_schedule


@settings(deadline=None)  # a busy machine is not a slow function
@given(
    steps=st.integers(1, 300),
    peak=st.floats(1e-6, 1e3),
    warmup_fraction=st.floats(0.0, 1.0, exclude_max=True),
)
def test_schedule_is_a_triangle(steps: int, peak: float, warmup_fraction: float) -> None:
    """However long the run: the rate rises to the peak, touches it once, falls, and is always above 0."""
    rates = [lr_schedule(step, steps=steps, peak=peak, warmup_fraction=warmup_fraction) for step in range(steps)]

    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(peak)
    assert all(before < after for before, after in itertools.pairwise(rates[: top + 1]))
    assert all(before > after for before, after in itertools.pairwise(rates[top:]))
    assert min(rates) > 0


def test_schedule_by_hand() -> None:
    """Ten steps, two tenths of them warm-up: up in two steps, down in eight, the next one would be 0."""
    rates = [lr_schedule(step, steps=10, peak=9.0, warmup_fraction=0.2) for step in range(11)]

    assert rates == pytest.approx([4.5, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0])


def test_cosine_by_hand() -> None:
    """Up in two steps, then half a wave down, steepest in the middle; the step after the last one would be 0."""
    rates = [lr_schedule(step, steps=6, peak=2.0, warmup_fraction=1 / 3, shape="cosine") for step in range(7)]

    assert rates == pytest.approx([1, 2, 1 + 0.809017, 1 + 0.309017, 1 - 0.309017, 1 - 0.809017, 0], abs=1e-6)


def test_constant_stays() -> None:
    """After its warm-up, if there is one, a constant rate is the peak in every step."""
    assert [lr_schedule(step, steps=3, peak=2.0, warmup_fraction=0.0, shape="constant") for step in range(3)] == [
        2.0
    ] * 3
    assert lr_schedule(0, steps=4, peak=2.0, warmup_fraction=0.5, shape="constant") == 1.0


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.5, 0.99])
def test_single_step_is_taken_at_the_peak(warmup_fraction: float) -> None:
    """A run of one step has a learning rate, and it is the peak."""
    assert lr_schedule(0, steps=1, peak=0.3, warmup_fraction=warmup_fraction) == 0.3
