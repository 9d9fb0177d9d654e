import io

import pytest
from PIL import Image

from client.results import ImageResult, Prediction
from client.sheet import MAX_PICTURES, ContactSheet

CAT = ImageResult((Prediction("cat", 3, 0.987),))
THUMBNAIL_PX, MARGIN_PX, CELL_PX = 96, 8, (104, 132)


def picture(colour: str, *, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def drawn(sheet: ContactSheet) -> Image.Image:
    return Image.open(io.BytesIO(sheet.to_png()))


def middle_of(column: int, row: int) -> tuple[int, int]:
    return (
        MARGIN_PX + column * CELL_PX[0] + THUMBNAIL_PX // 2,
        MARGIN_PX + row * CELL_PX[1] + THUMBNAIL_PX // 2,
    )


def ink_below(image: Image.Image, column: int, row: int) -> set[object]:
    """The colours that are written below a thumbnail."""
    x, y = MARGIN_PX + column * CELL_PX[0], MARGIN_PX + row * CELL_PX[1] + THUMBNAIL_PX
    below = image.crop((x, y, x + THUMBNAIL_PX, y + 28))
    return {colour for _, colour in below.getcolors(2**16) or []}


def test_pictures_stand_in_rows_in_their_order() -> None:
    """Three pictures make two rows of two, the last place empty; each has ink below it."""
    sheet = ContactSheet(3)
    for colour in ("red", "lime", "blue"):
        sheet.add(f"{colour}.png", picture(colour), CAT)

    image = drawn(sheet)

    places = [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [image.getpixel(middle_of(*place)) for place in places] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
    ]
    assert [len(ink_below(image, *place)) > 1 for place in places] == [True, True, True, False]


def test_a_picture_that_cannot_be_read_is_grey_with_a_red_error() -> None:
    """Its place is kept, so that the others stay where they belong."""
    sheet = ContactSheet(1)
    sheet.add("broken.png", b"no picture", ImageResult((), "not a picture"))

    image = drawn(sheet)

    assert image.getpixel(middle_of(0, 0)) == (221, 221, 221)
    assert (176, 0, 32) in ink_below(image, 0, 0)


def test_transparency_lies_over_white() -> None:
    """As the server sees it."""
    sheet = ContactSheet(1)
    sheet.add("clear.png", picture("#ff000000", mode="RGBA"), CAT)

    assert drawn(sheet).getpixel(middle_of(0, 0)) == (255, 255, 255)


def test_long_names_stay_in_their_place() -> None:
    """A name is cut at its beginning; it does not run into the neighbour."""
    sheet = ContactSheet(2)
    sheet.add("folder/" * 50 + "cat.png", picture("red"), CAT)

    image = drawn(sheet)

    assert ink_below(image, 1, 0) == {(255, 255, 255)}


@pytest.mark.parametrize("pictures", [0, MAX_PICTURES + 1])
def test_a_sheet_has_bounds(pictures: int) -> None:
    """Nobody wants a picture of gigabytes."""
    with pytest.raises(ValueError, match=f"expected 1 to 1,000 pictures on a sheet, got {pictures:,}"):
        ContactSheet(pictures)
