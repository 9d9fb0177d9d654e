import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from server.errors import InvalidImage
from server.images import ImageLimits, decode_planar, decode_rgb, open_image
from server.images import decode_image as decode_to_bytes

LIMITS = ImageLimits(max_bytes=8 * 2**20, max_pixels=25_000_000)


def decode_image(data: bytes, *, limits: ImageLimits) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the pixels as an array, uint8 (32, 32, 3)."""
    return np.frombuffer(decode_to_bytes(data, limits=limits), np.uint8).reshape(32, 32, 3)


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def noise(width: int = 32, height: int = 32, channels: int = 3) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and has no pixels to show for it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def test_jpeg_of_very_many_scans_is_refused() -> None:
    """A small progressive JPEG that would cost a walk over the whole picture thousands of times is not decoded."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    hostile = data[:last] + data[last:-2] * 200 + data[-2:]

    with pytest.raises(InvalidImage, match="expected at most 100 scans in a JPEG file, got 2"):
        open_image(hostile, limits=LIMITS)
    assert open_image(data, limits=LIMITS).size == (64, 64)


def test_png_of_the_right_size_is_taken_pixel_for_pixel() -> None:
    """A 32x32 RGB PNG arrives unchanged."""
    pixels = noise()

    assert np.array_equal(decode_image(encoded(Image.fromarray(pixels)), limits=LIMITS), pixels)


def test_raw_rgb_is_taken_pixel_for_pixel() -> None:
    """3072 raw bytes are the pixels, row by row."""
    pixels = noise()

    assert decode_rgb(pixels.tobytes()) == pixels.tobytes()


@pytest.mark.parametrize("size", [0, 4, 3071, 3073])
def test_raw_rgb_of_the_wrong_length_says_both_numbers(size: int) -> None:
    """Raw bytes of another length are refused with what was expected and what came."""
    with pytest.raises(InvalidImage, match=rf"expected 3072 bytes \(32x32 RGB\), got {size}"):
        decode_rgb(bytes(size))


def test_empty_file_is_refused() -> None:
    """No bytes at all get a message of their own."""
    with pytest.raises(InvalidImage, match="got 0 bytes"):
        decode_image(b"", limits=LIMITS)


def test_text_file_is_refused() -> None:
    """A file that is no picture is refused."""
    with pytest.raises(InvalidImage, match="expected a JPEG or PNG file, got 11 bytes"):
        decode_image(b"hello world", limits=LIMITS)


@pytest.mark.parametrize("file_format", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_not_even_opened(file_format: str) -> None:
    """Only JPEG and PNG are parsed, however healthy the file."""
    with pytest.raises(InvalidImage, match="expected a JPEG or PNG file"):
        decode_image(encoded(Image.fromarray(noise()), file_format), limits=LIMITS)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_truncated_file_is_refused(file_format: str) -> None:
    """Half a file is refused, not guessed."""
    data = encoded(Image.fromarray(noise(200, 200)), file_format)

    with pytest.raises(InvalidImage, match=f"damaged {file_format} file"):
        decode_image(data[: len(data) // 2], limits=LIMITS)


def test_huge_png_header_is_refused_before_decoding() -> None:
    """A header that claims 65,535 x 65,535 pixels is refused at once."""
    started = time.perf_counter()
    with pytest.raises(InvalidImage, match="pixels"):
        decode_image(png_header(65_535, 65_535), limits=LIMITS)

    assert time.perf_counter() - started < 1.0


def test_pixels_are_capped() -> None:
    """A picture over the pixel limit is refused with both numbers."""
    with pytest.raises(InvalidImage, match="expected at most 1000 pixels, got 40x40"):
        decode_image(encoded(Image.fromarray(noise(40, 40))), limits=ImageLimits(max_bytes=10**6, max_pixels=1000))


def test_bytes_are_capped() -> None:
    """A file over the byte limit is refused with both numbers."""
    with pytest.raises(InvalidImage, match="expected at most 10 bytes, got 20"):
        decode_image(bytes(20), limits=ImageLimits(max_bytes=10, max_pixels=1000))


def test_animation_is_refused() -> None:
    """An animated PNG has no one picture to classify."""
    frames = [Image.fromarray(noise()), Image.fromarray(255 - noise())]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])

    with pytest.raises(InvalidImage, match="got an animation of 2 frames"):
        decode_image(data, limits=LIMITS)


def test_exif_orientation_is_applied() -> None:
    """A photo taken with the camera on its side is turned upright."""
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right
    sideways = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    pixels = decode_image(encoded(sideways, "JPEG", quality=95, exif=exif), limits=LIMITS)

    assert pixels[:14].mean() > 240
    assert pixels[18:].mean() < 15


def test_transparency_is_laid_over_white() -> None:
    """Fully transparent pixels count as white, whatever colour they hide."""
    rgba = np.zeros((32, 32, 4), np.uint8)

    assert decode_image(encoded(Image.fromarray(rgba)), limits=LIMITS).min() == 255


def test_palette_transparency_is_laid_over_white() -> None:
    """A transparent palette colour counts as white too."""
    image = Image.new("P", (32, 32), 0)
    image.putpalette([10, 20, 30])

    assert decode_image(encoded(image, transparency=0), limits=LIMITS).min() == 255


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    """A 16-bit grey PNG is scaled to 8 bits, not clipped to white."""
    shades = np.linspace(0, 65_535, 32 * 32).reshape(32, 32).astype(np.uint16)
    pixels = decode_image(encoded(Image.fromarray(shades)), limits=LIMITS)

    assert np.array_equal(pixels[..., 0], shades >> 8)


def test_grey_becomes_three_equal_channels() -> None:
    """A grey picture is RGB with equal channels."""
    grey = noise(channels=1)
    pixels = decode_image(encoded(Image.fromarray(grey)), limits=LIMITS)

    assert np.array_equal(pixels, np.repeat(grey[..., None], 3, axis=2))


def test_cmyk_becomes_rgb() -> None:
    """A CMYK JPEG, as printers make them, keeps its colours."""
    red = Image.new("RGB", (64, 64), (220, 20, 20)).convert("CMYK")
    pixels = decode_image(encoded(red, "JPEG", quality=95), limits=LIMITS)

    assert np.abs(pixels.reshape(-1, 3).mean(axis=0) - [220, 20, 20]).max() < 6


def test_central_square_is_taken() -> None:
    """Of a wide picture the middle counts, and nothing is squashed."""
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    pixels = decode_image(encoded(Image.fromarray(wide)), limits=LIMITS)

    assert pixels[:, 2:-2].min() >= 195  # the filter mixes a little of the neighbours into the edge
    assert pixels.min() > 150


def test_large_jpeg_is_scaled_like_a_small_one() -> None:
    """Decoding a photo at reduced size gives nearly the picture that full decoding gives."""
    gradient = np.tile(np.linspace(0, 255, 2048).astype(np.uint8)[None, :, None], (2048, 1, 3))
    pixels = decode_image(encoded(Image.fromarray(gradient), "JPEG", quality=95), limits=LIMITS)
    exact = np.asarray(Image.fromarray(gradient).resize((32, 32), Image.Resampling.BICUBIC))

    assert np.abs(pixels.astype(int) - exact).max() <= 4


@given(st.binary(max_size=300))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    """Whatever the bytes, the only failure is InvalidImage."""
    with pytest.raises(InvalidImage):
        decode_image(data, limits=LIMITS)


@given(st.integers(0, 2**32), st.integers(1, 20))
def test_flipped_bytes_decode_or_are_refused(seed: int, flips: int) -> None:
    """A damaged PNG or JPEG is either still a picture or InvalidImage."""
    random = np.random.default_rng(seed)
    data = bytearray(encoded(Image.fromarray(noise()), "JPEG" if seed % 2 else "PNG"))
    for position in random.integers(0, len(data), flips):
        data[position] ^= int(random.integers(1, 256))
    try:
        pixels = decode_image(bytes(data), limits=LIMITS)
    except InvalidImage:
        return

    assert pixels.shape == (32, 32, 3)


def test_planar_floats_are_the_pixels_they_were_made_of() -> None:
    """Pixels divided by 255 and laid out plane by plane come back to the bit, each of the 256 values."""
    pixels = np.arange(3072, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
    planar = (pixels.astype("<f4") / np.float32(255)).transpose(2, 0, 1).tobytes()

    assert decode_planar(planar) == pixels.tobytes()


def test_planar_floats_are_rounded() -> None:
    """A value between two of the 256 becomes the nearer one: a resized picture does not turn darker."""
    values = np.full(3072, 7.6 / 255, "<f4")
    values[:1024] = 7.4 / 255

    assert decode_planar(values.tobytes())[:3] == bytes([7, 8, 8])


@pytest.mark.parametrize(
    ("value", "found"), [(255.0, "0 to 255"), (-0.1, "-0.1 to 0"), (float("nan"), "nan to nan"), (1.001, "0 to 1.001")]
)
def test_planar_floats_are_from_0_to_1(value: float, found: str) -> None:
    """Values that were not scaled, or were normalized, are refused and not taken for dark pictures."""
    values = np.zeros(3072, "<f4")
    values[7] = value

    with pytest.raises(InvalidImage, match=f"^expected values from 0 to 1, not normalized, got {found}$"):
        decode_planar(values.tobytes())


def test_planar_picture_has_its_size() -> None:
    """Another number of bytes is refused with both numbers."""
    with pytest.raises(InvalidImage, match=r"^expected 12288 bytes \(3x32x32 FP32\), got 3072$"):
        decode_planar(bytes(3072))
