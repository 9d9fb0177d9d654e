"""Batch sizes that stand for all the others: powers of two, and the largest. Knows no framework."""

import functools
from bisect import bisect_left


@functools.cache
def buckets(largest: int) -> tuple[int, ...]:
    """Return the powers of two up to the largest batch, and the largest, in ascending order."""
    return tuple(sorted({*(2**power for power in range(largest.bit_length())), largest}))


def bucket(count: int, *, largest: int) -> int:
    """Return the smallest bucket that holds `count` pictures.

    Raises:
        ValueError: `count` is not between 1 and `largest`.
    """
    if not 1 <= count <= largest:
        raise ValueError(f"expected 1 to {largest} pictures, got {count}")
    return buckets(largest)[bisect_left(buckets(largest), count)]
