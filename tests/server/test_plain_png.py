import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from server.images import ImageLimits, decode_image
from server.plain_png import decode_plain_png

LIMITS = ImageLimits(max_bytes=8 * 2**20, max_pixels=25_000_000)
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def of_rows(rows: bytes, *, cut: int = 0) -> bytes:
    """A file of rows as they are filtered, its pixels cut into two chunks."""
    plain = encoded(Image.fromarray(PIXELS))
    packed = zlib.compress(rows)
    return plain[:33] + chunk(b"IDAT", packed[:cut]) + chunk(b"IDAT", packed[cut:]) + chunk(b"IEND", b"")


@pytest.mark.parametrize("level", [0, 1, 9])
def test_plain_file_is_decoded(level: int) -> None:
    """However well it is compressed, the pixels are those that were saved."""
    assert decode_plain_png(encoded(Image.fromarray(PIXELS), compress_level=level)) == PIXELS.tobytes()


@given(filters=st.lists(st.integers(0, 4), min_size=32, max_size=32), seed=st.integers(0, 99), cut=st.integers(0, 900))
def test_every_filter_gives_the_pixels_that_pillow_gives(filters: list[int], seed: int, cut: int) -> None:
    """Whatever filter each row has, and wherever the chunks end, both decoders agree on each bit."""
    values = np.random.default_rng(seed).integers(0, 256, (32, 96), np.uint8)
    data = of_rows(b"".join(bytes([kind]) + row.tobytes() for kind, row in zip(filters, values, strict=True)), cut=cut)

    assert decode_plain_png(data) == decode_image(data, limits=LIMITS)


def with_text() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a picture")
    return encoded(Image.fromarray(PIXELS), pnginfo=text)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("RGB", (33, 32))),
        encoded(Image.new("L", (32, 32))),
        encoded(Image.new("RGBA", (32, 32))),
        encoded(Image.fromarray(PIXELS), transparency=(1, 2, 3)),
        with_text(),
        encoded(Image.fromarray(PIXELS)) + b"more",
        b"",
    ],
    ids=["size", "grey", "alpha", "transparent colour", "text", "more behind it", "empty"],
)
def test_any_other_file_is_left_to_the_others(data: bytes) -> None:
    """What has another size or kind, or says more than pixels, is not for this decoder."""
    assert decode_plain_png(data) is None


def test_damaged_file_is_never_decoded() -> None:
    """A file with any one bit turned over is left to Pillow, which refuses it or knows better."""
    data = bytearray(encoded(Image.new("RGB", (32, 32), (10, 200, 30))))
    for place in range(len(data)):
        for bit in range(8):
            data[place] ^= 1 << bit
            assert decode_plain_png(bytes(data)) is None, (place, bit)
            data[place] ^= 1 << bit


def test_truncated_file_is_never_decoded() -> None:
    """Wherever a file ends too soon, it is left to Pillow."""
    data = encoded(Image.fromarray(PIXELS))

    assert all(decode_plain_png(data[:length]) is None for length in range(len(data)))


@pytest.mark.parametrize("rows", [b"", bytes(97 * 31), bytes(97 * 31) + bytes([9]) + bytes(96)])
def test_too_few_pixels_or_an_unknown_filter_are_left_to_the_others(rows: bytes) -> None:
    """Right sums do not make a picture of what is none."""
    assert decode_plain_png(of_rows(rows)) is None
