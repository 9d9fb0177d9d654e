import asyncio
import io
import os
import subprocess
import sys
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
from tests.server.process import ROOT

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


# Prints the niceness of the main thread and of the thread that decodes a big picture.
NICENESS = """
import asyncio, os, threading
import server.decoding
from server.decoding import Decoder, EncodedPicture
from server.images import ImageLimits

def decode(data, *, limits):
    print(os.getpriority(os.PRIO_PROCESS, os.getpid()), os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    return bytes(3072)

server.decoding.decode_image = decode
with Decoder(threads=1, limits=ImageLimits(max_bytes=10**6, max_pixels=10**6)) as decoder:
    asyncio.run(decoder.decode([EncodedPicture(bytes(100_000))]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux a thread has a priority of its own")
@pytest.mark.parametrize(("started_with", "decodes_with"), [(0, 10), (15, 19)])
def test_threads_give_way_to_whatever_the_server_was_started_with(started_with: int, decodes_with: int) -> None:
    """A server that was started with a low priority decodes with a lower one; a higher one it might not be allowed."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if before:
        pytest.skip(f"these tests themselves run with niceness {before}")

    command = ["nice", "-n", str(started_with), sys.executable, "-c", NICENESS]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert printed.split() == [str(started_with), str(decodes_with)]
