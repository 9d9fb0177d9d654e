import pytest

from client.errors import InvalidRequest
from client.requests import MAX_PICTURE_BYTES, MAX_REQUEST_BYTES, RawRgb, to_request


@pytest.mark.parametrize("size", [0, 4, 3071, 3073])
def test_raw_pixels_are_exactly_one_picture(size: int) -> None:
    """Pixels of any other shape are refused with both sizes, before anything is sent."""
    with pytest.raises(InvalidRequest, match=rf"^expected 3072 bytes \(32x32 RGB\), got {size}$"):
        RawRgb(bytes(size))


def test_the_largest_picture_fits_into_a_request() -> None:
    """A picture of the largest size, under the longest name of a model, is not too large a request."""
    request = to_request([bytes(MAX_PICTURE_BYTES)], model="m" * 64, version=2**31, top_k=10)

    assert request.ByteSize() <= MAX_REQUEST_BYTES


def test_too_large_a_request_says_what_to_do() -> None:
    """The sum of the pictures is what counts, and the message gives a way out."""
    with pytest.raises(InvalidRequest, match=r"expected at most 8,388,608 bytes .* send fewer pictures at once"):
        to_request([bytes(2**20)] * 8, model="", version=0, top_k=1)
