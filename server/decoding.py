"""Decoding of a request's pictures: tiny ones at once, big ones in a bounded pool of threads."""

import asyncio
import concurrent.futures
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from server.engines import Pixels
from server.errors import InvalidImage
from server.images import ImageLimits, decode_image, decode_planar, decode_rgb, open_image, to_pixels
from server.plain_png import decode_plain_png

# A picture under both bounds is decoded in less time than a hop to another thread and back costs.
_INLINE_BYTES = 16 * 1024
_INLINE_PIXELS = 128 * 128
# So many of them in a row hold the event loop for about a millisecond.
_INLINE_RUN = 16
# A second spent on a photograph must not be a second that small pictures wait.
_NICENESS = 10

Decoded = Pixels | InvalidImage


@dataclass(slots=True)
class EncodedPicture:
    """The bytes of a JPEG or PNG file."""

    data: bytes


@dataclass(slots=True)
class RawPicture:
    """3072 bytes of 32x32 RGB."""

    data: bytes


@dataclass(slots=True)
class PlanarPicture:
    """12288 bytes: the red, the green and the blue of 32x32 pixels, FP32 from 0 to 1, little-endian."""

    data: bytes


Picture = EncodedPicture | RawPicture | PlanarPicture


class Decoder:
    """Decodes pictures without holding up the event loop; leaving it waits for the threads.

    What waits for a thread is not bounded here: callers hold room in a model's queue, in items and bytes.
    """

    def __init__(self, *, threads: int, limits: ImageLimits) -> None:
        self._limits = limits
        self._pool = concurrent.futures.ThreadPoolExecutor(
            threads, thread_name_prefix="decode", initializer=_lower_priority
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    async def decode(self, pictures: Sequence[Picture]) -> list[Decoded]:
        """Return each picture's pixels, or why it cannot be read, in their order.

        When the caller goes away, what no thread has begun is never decoded.
        """
        decoded: list[Decoded | asyncio.Future[Decoded]] = []
        try:
            for number, picture in enumerate(pictures, start=1):
                decoded.append(self._begin(picture))
                if number % _INLINE_RUN == 0 and not isinstance(picture, RawPicture):
                    await asyncio.sleep(0)  # let the others have their turn
            return [await outcome if isinstance(outcome, asyncio.Future) else outcome for outcome in decoded]
        except asyncio.CancelledError:
            for outcome in decoded:
                if isinstance(outcome, asyncio.Future):
                    outcome.cancel()
            raise

    def _begin(self, picture: Picture) -> Decoded | asyncio.Future[Decoded]:
        try:
            if isinstance(picture, RawPicture):
                return decode_rgb(picture.data)
            if isinstance(picture, PlanarPicture):
                return decode_planar(picture.data)
            if len(picture.data) <= _INLINE_BYTES:
                if len(picture.data) <= self._limits.max_bytes and (pixels := decode_plain_png(picture.data)):
                    return pixels
                image = open_image(picture.data, limits=self._limits)
                if image.width * image.height <= _INLINE_PIXELS:
                    return to_pixels(image)
        except InvalidImage as exc:
            return exc
        return self._in_pool(picture.data)

    def _in_pool(self, data: bytes) -> asyncio.Future[Decoded]:
        return asyncio.get_running_loop().run_in_executor(self._pool, self._outcome, data)

    def _outcome(self, data: bytes) -> Decoded:
        try:
            return decode_image(data, limits=self._limits)
        except InvalidImage as exc:
            return exc


def _lower_priority() -> None:
    """Let the event loop and the engine go first: on Linux a thread has a priority of its own."""
    if sys.platform == "linux":
        os.nice(_NICENESS)  # more than what the server was started with: to ask for less takes privileges
