"""From the bytes of a picture to 32x32 RGB pixels. Pure; knows no protocol and no threads.

Only JPEG and PNG are opened, and only after the size of the file and of the picture were checked:
Pillow's other formats have had the parser vulnerabilities.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from models.preprocessing import CHANNELS, IMAGE_BYTES, IMAGE_SIZE_PX
from server.engines import Pixels
from server.errors import InvalidImage

_FORMATS = ("JPEG", "PNG")
PLANAR_BYTES = 4 * IMAGE_BYTES
_SIZE = (IMAGE_SIZE_PX, IMAGE_SIZE_PX)
# A progressive JPEG of a camera has about ten scans. Each costs a walk over the whole picture, however few bytes
# it has: a few megabytes could hold a thread for minutes.
_SCAN = b"\xff\xda"
_MAX_SCANS = 100
_WHITE = (255, 255, 255, 255)


@dataclass(frozen=True)
class ImageLimits:
    """What is decoded at all: bytes of the file, and width times height."""

    max_bytes: int
    max_pixels: int


def decode_rgb(data: bytes) -> Pixels:
    """Return raw 8-bit HWC bytes as they are.

    Raises:
        InvalidImage: not exactly 3072 bytes.
    """
    if len(data) != IMAGE_BYTES:
        raise InvalidImage(f"expected {IMAGE_BYTES} bytes (32x32 RGB), got {len(data)}")
    return data


def decode_planar(data: bytes) -> Pixels:
    """Return FP32 CHW values from 0 to 1 as 8-bit HWC ones: what torchvision's ToTensor does, undone.

    Raises:
        InvalidImage: not exactly 12288 bytes, or a value that is not from 0 to 1.
    """
    if len(data) != PLANAR_BYTES:
        raise InvalidImage(f"expected {PLANAR_BYTES} bytes (3x32x32 FP32), got {len(data)}")
    values = np.frombuffer(data, "<f4").reshape(CHANNELS, IMAGE_SIZE_PX, IMAGE_SIZE_PX)
    least, most = values.min(), values.max()
    if not (least >= 0 and most <= 1):  # also when they are no numbers
        raise InvalidImage(f"expected values from 0 to 1, not normalized, got {least:g} to {most:g}")
    return np.rint(values * np.float32(255)).astype(np.uint8).transpose(1, 2, 0).tobytes()


def decode_image(data: bytes, *, limits: ImageLimits) -> Pixels:
    """Return a JPEG or PNG file as 32x32 RGB pixels.

    Raises:
        InvalidImage: as `open_image` and `to_pixels` do.
    """
    return to_pixels(open_image(data, limits=limits))


def open_image(data: bytes, *, limits: ImageLimits) -> Image.Image:
    """Read and check the header of a JPEG or PNG file; no pixel is decoded yet.

    Raises:
        InvalidImage: the file is empty, too big, neither JPEG nor PNG, animated, or has too many scans.
    """
    if not data:
        raise InvalidImage("expected a JPEG or PNG file, got 0 bytes")
    if len(data) > limits.max_bytes:
        raise InvalidImage(f"expected at most {limits.max_bytes} bytes, got {len(data)}")
    image = _open(data)
    width, height = image.size
    if width * height > limits.max_pixels:
        raise InvalidImage(f"expected at most {limits.max_pixels} pixels, got {width}x{height}")
    if isinstance(image, PngImageFile) and image.is_animated:  # a JPEG's further frames are previews of it
        raise InvalidImage(f"expected a still picture, got an animation of {image.n_frames} frames")
    if isinstance(image, JpegImageFile) and data.count(_SCAN) > _MAX_SCANS:
        raise InvalidImage(f"expected at most {_MAX_SCANS} scans in a JPEG file, got {data.count(_SCAN)}")
    return image


def to_pixels(image: Image.Image) -> Pixels:
    """Decode an opened picture and return it as 32x32 RGB pixels.

    It is turned upright by its EXIF orientation, transparency is laid over white, grey, palette,
    16-bit and CMYK pictures become RGB, and the largest central square is scaled with antialiasing.

    Raises:
        InvalidImage: the file is damaged.
    """
    try:
        return _to_square_rgb(image).tobytes()
    except Exception as exc:  # whatever a parser of hostile bytes raises is the picture's fault
        raise InvalidImage(f"damaged {image.format} file") from exc


def _open(data: bytes) -> Image.Image:
    """Read the header only."""
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as exc:
        raise InvalidImage("the picture has far too many pixels") from exc
    except Exception as exc:  # a parser of hostile bytes raises whatever it likes
        raise InvalidImage(f"expected a JPEG or PNG file, got {len(data)} bytes of something else") from exc


def _to_square_rgb(image: Image.Image) -> Image.Image:
    if isinstance(image, JpegImageFile) and min(image.size) > 2 * IMAGE_SIZE_PX:
        # The decoder scales by up to 1/8 while it decodes: a 12-megapixel photo costs a fraction.
        image.draft("RGB", (2 * IMAGE_SIZE_PX, 2 * IMAGE_SIZE_PX))
    ImageOps.exif_transpose(image, in_place=True)
    rgb = _to_rgb(image)
    if rgb.size == _SIZE:
        return rgb
    return ImageOps.fit(rgb, _SIZE, method=Image.Resampling.BICUBIC)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it to white
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")
    return image.convert("RGB")
