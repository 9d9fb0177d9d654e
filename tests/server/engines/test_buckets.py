import pytest

from server.engines.buckets import bucket, buckets


def test_buckets_are_powers_of_two_and_the_largest() -> None:
    """The largest batch has a bucket also when it is no power of two."""
    assert buckets(1) == (1,)
    assert buckets(8) == (1, 2, 4, 8)
    assert buckets(48) == (1, 2, 4, 8, 16, 32, 48)


@pytest.mark.parametrize("largest", [1, 2, 48, 64])
def test_every_batch_is_in_the_smallest_bucket_that_holds_it(largest: int) -> None:
    """A batch is padded as little as the buckets allow."""
    for count in range(1, largest + 1):
        assert bucket(count, largest=largest) == min(size for size in buckets(largest) if size >= count)


@pytest.mark.parametrize("count", [0, 9])
def test_batch_of_an_impossible_size_is_refused(count: int) -> None:
    """No bucket holds nothing, or more than the largest batch."""
    with pytest.raises(ValueError, match=f"expected 1 to 8 pictures, got {count}"):
        bucket(count, largest=8)
