"""A contact sheet: thumbnails with labels in one picture. Knows files' bytes and answers, no server and no terminal."""

import io
import math
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont, ImageOps

from client.results import ImageResult

MAX_PICTURES = 1000

_MAX_PIXELS = 80_000_000  # the most that a server can be told to decode
_THUMBNAIL_PX = 96
_MARGIN_PX = 8
_LINE_PX = 14
_CELL_WIDTH_PX = _THUMBNAIL_PX + _MARGIN_PX
_CELL_HEIGHT_PX = _THUMBNAIL_PX + 2 * _LINE_PX + _MARGIN_PX
_FONT_PX = 12
_PAPER, _INK, _FAINT, _RED, _EMPTY = "white", "black", "#777777", "#b00020", "#dddddd"


class ContactSheet:
    """Room for `pictures` thumbnails, row by row; each has its best label and its name below it."""

    def __init__(self, pictures: int) -> None:
        """Lay out about as many columns as rows.

        Raises:
            ValueError: not 1 to `MAX_PICTURES`.
        """
        if not 1 <= pictures <= MAX_PICTURES:
            raise ValueError(f"expected 1 to {MAX_PICTURES:,} pictures on a sheet, got {pictures:,}")
        self._columns = math.ceil(math.sqrt(pictures))
        rows = math.ceil(pictures / self._columns)
        size = (self._columns * _CELL_WIDTH_PX + _MARGIN_PX, rows * _CELL_HEIGHT_PX + _MARGIN_PX)
        self._image = Image.new("RGB", size, _PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(_FONT_PX)
        self._next = 0

    def add(self, name: str, data: bytes, result: ImageResult) -> None:
        """Put a picture into the next place; one that cannot be read is a grey square.

        Args:
            name: is written below, from its end if it is too long.
            data: the JPEG or PNG file.
            result: its best label is written in black, an error in red.
        """
        row, column = divmod(self._next, self._columns)
        self._next += 1
        x, y = _MARGIN_PX + column * _CELL_WIDTH_PX, _MARGIN_PX + row * _CELL_HEIGHT_PX
        self._image.paste(_to_thumbnail(data), (x, y))
        y += _THUMBNAIL_PX
        if result.error is not None:
            self._write(x, y, "error", _RED)
        else:
            best = result.predictions[0]
            self._write(x, y, f"{best.label} {best.probability:.0%}", _INK)
        self._write(x, y + _LINE_PX, name, _FAINT, cut=_end_of)

    def to_png(self) -> bytes:
        """Return the sheet as a PNG file."""
        buffer = io.BytesIO()
        self._image.save(buffer, "PNG")
        return buffer.getvalue()

    def _write(self, x: int, y: int, text: str, colour: str, *, cut: "Callable[[str, int], str] | None" = None) -> None:
        cut = cut or _start_of
        length = len(text)
        while length and self._draw.textlength(cut(text, length), self._font) > _THUMBNAIL_PX:
            length -= 1
        self._draw.text((x, y), cut(text, length), colour, self._font)


def _start_of(text: str, length: int) -> str:
    return text if length == len(text) else f"{text[:length]}…"


def _end_of(text: str, length: int) -> str:
    return text if length == len(text) else f"…{text[len(text) - length :]}"


def _to_thumbnail(data: bytes) -> Image.Image:
    """Return the largest central square, upright, which is what the server looks at."""
    size = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        if image.width * image.height > _MAX_PIXELS:
            raise ValueError(f"expected at most {_MAX_PIXELS} pixels, got {image.width}x{image.height}")
        image.draft("RGB", size)  # a JPEG decoder scales while it decodes
        upright = ImageOps.exif_transpose(image).convert("RGBA")
        tiny = min(upright.size) < _THUMBNAIL_PX
        # The 32x32 pictures of CIFAR-10 are recognized better by their pixels than blurred.
        square = ImageOps.fit(upright, size, Image.Resampling.NEAREST if tiny else Image.Resampling.BICUBIC)
    except Exception:  # noqa: BLE001  # a parser of damaged bytes raises whatever it likes; its square stays empty
        return Image.new("RGB", size, _EMPTY)
    return Image.alpha_composite(Image.new("RGBA", size, _PAPER), square).convert("RGB")
