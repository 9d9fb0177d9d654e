import asyncio

import pytest

from server.admission import Admission
from server.errors import Draining


async def test_drain_waits_for_everyone_inside() -> None:
    """The drain is over only when the last RPC has left."""
    admission = Admission()
    with admission:
        drain = asyncio.create_task(admission.drain(timeout_seconds=10))
        await asyncio.wait({drain}, timeout=0.2)
        assert not drain.done()

    assert await drain is True
    assert admission.inside == 0


async def test_newcomers_are_refused_during_the_drain() -> None:
    """Whoever comes after the drain began is refused."""
    admission = Admission()
    await admission.drain(timeout_seconds=1)

    with pytest.raises(Draining), admission:
        pass


async def test_drain_gives_up_after_its_time() -> None:
    """An RPC that never ends cannot hold the drain for longer than allowed."""
    admission = Admission()
    with admission:
        finished = await admission.drain(timeout_seconds=0.05)

    assert finished is False
