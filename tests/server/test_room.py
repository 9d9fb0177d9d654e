import pytest

from server.errors import Overloaded
from server.room import Room


def make_room(*, max_items: int = 100, seconds_per_item: float = 0.0) -> Room:
    return Room(max_items=max_items, max_bytes=100, seconds_to_compute=lambda items: items * seconds_per_item)


def reserve(room: Room, *, items: int = 1, size_bytes: int = 0) -> object:
    return room.reserve(items, size_bytes=size_bytes)


def test_items_are_bounded() -> None:
    """Exactly so many items fit, and what was refused takes no room."""
    room = make_room(max_items=3)
    reserve(room, items=2)
    with pytest.raises(Overloaded, match="2 of 3 wait, 2 more came"):
        reserve(room, items=2)
    reserve(room, items=1)

    assert room.items == 3


def test_bytes_are_bounded_until_the_caller_leaves() -> None:
    """Bytes stay counted after the items were handed over, until the block is left."""
    room = make_room(max_items=10)
    with room.reserve(1, size_bytes=80) as reservation:
        room.release_items(reservation.items)
        reservation.items = 0
        with pytest.raises(Overloaded, match="80 of 100 bytes are held, 30 more came"):
            reserve(room, size_bytes=30)

    reserve(room, size_bytes=30)


def test_leaving_gives_items_back_that_never_waited() -> None:
    """A caller whose picture could not be read, or who went away, leaves no item behind."""
    room = make_room(max_items=1)
    with room.reserve(1, size_bytes=10):
        pass

    assert room.items == 0


def test_refusal_tells_the_cost_of_what_waits() -> None:
    """The time after which to come back is what the waiting items cost, spread by half around it."""
    room = make_room(seconds_per_item=0.02)
    reserve(room, items=100)
    found = []
    for _ in range(50):
        with pytest.raises(Overloaded) as refusal:
            reserve(room)
        found.append(refusal.value.retry_after_seconds)

    assert all(1.0 <= seconds <= 3.0 for seconds in found)
    assert len(set(found)) > 1
