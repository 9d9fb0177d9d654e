"""What options take beyond click's own types."""

import math

import click


class Finite(click.FloatRange):
    """A number in a range. click lets "nan" through any range, and "inf" through one without an end."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; fail with what is expected."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"expected a number, got {value}.", param, ctx)
        return number
