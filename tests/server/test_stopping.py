import os
import signal

from server.stopping import Stop
from tests.polling import eventually


async def test_first_failure_is_kept() -> None:
    """What goes wrong while the process ends does not hide why it ends."""
    stop = Stop()
    stop.request(failure="the engine failed")
    stop.request(failure="so the drain failed")
    await stop.wait()

    assert stop.failure == "the engine failed"


async def test_second_signal_forces() -> None:
    """The first signal begins the end, and is no failure; the next one forces it."""
    stop = Stop()
    forced: list[str] = []
    stop.obey_signals(force=lambda: forced.append("now"))
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()
    before = list(forced)
    os.kill(os.getpid(), signal.SIGINT)
    await eventually(lambda: bool(forced))

    assert (before, forced, stop.failure) == ([], ["now"], "")
