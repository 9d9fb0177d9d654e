import asyncio
import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import server.decoding
from server.decoding import Decoder, EncodedPicture, RawPicture
from server.engines import Pixels
from server.errors import InvalidImage
from server.images import ImageLimits, decode_image
from tests.polling import eventually

LIMITS = ImageLimits(max_bytes=8 * 2**20, max_pixels=25_000_000)


def png(size: int, value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(threads=1, limits=LIMITS) as decoder:
        yield decoder


class HeldDecoding:
    """Stands in for `decode_image`: notes which thread asks, and waits until it is released."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.released = threading.Event()

    def __call__(self, data: bytes, *, limits: ImageLimits) -> Pixels:
        self.threads.append(threading.current_thread().name)
        assert self.released.wait(5)
        return decode_image(data, limits=limits)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldDecoding]:
    held = HeldDecoding()
    monkeypatch.setattr(server.decoding, "decode_image", held)
    yield held
    held.released.set()


async def test_each_picture_gets_its_own_outcome_in_order(decoder: Decoder) -> None:
    """Good, bad, raw and big pictures of one request come back in their places."""
    outcomes = await decoder.decode(
        [EncodedPicture(png(32, 7)), RawPicture(b"short"), EncodedPicture(png(600, 9)), RawPicture(bytes(3072))]
    )

    assert [isinstance(outcome, InvalidImage) for outcome in outcomes] == [False, True, False, False]
    assert [outcome[0] for outcome in outcomes if not isinstance(outcome, InvalidImage)] == [7, 9, 0]


async def test_big_pictures_leave_the_event_loop_alone(decoder: Decoder, held: HeldDecoding) -> None:
    """While a big picture is decoded in its thread, small ones are answered."""
    big = asyncio.create_task(decoder.decode([EncodedPicture(png(600))]))
    await eventually(lambda: len(held.threads) == 1)
    small = await decoder.decode([EncodedPicture(png(32))])
    held.released.set()

    assert not isinstance(small[0], InvalidImage)
    assert held.threads[0].startswith("decode")
    assert len(await big) == 1


async def test_photographs_of_a_caller_that_left_are_not_decoded(decoder: Decoder, held: HeldDecoding) -> None:
    """When the caller goes away, only the picture that a thread had begun is decoded."""
    caller = asyncio.create_task(decoder.decode([EncodedPicture(png(600))] * 5))
    await eventually(lambda: len(held.threads) == 1)
    caller.cancel()
    await asyncio.wait({caller})
    held.released.set()
    await decoder.decode([EncodedPicture(png(600))])

    assert len(held.threads) == 2
