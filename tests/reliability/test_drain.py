"""Nothing that was accepted is lost on SIGTERM."""

import random
import signal
import time
from pathlib import Path

import grpc

from tests.reliability.conftest import Figure, Scale
from tests.reliability.load import ONE_PICTURE, Tally, answers, closed_loops, predict_call
from tests.server.process import running_server

_CALLERS = 32
_MOST_ANSWERS_BEFORE = 400


async def _sigterm_under_load(repository: Path, answers_before: int) -> tuple[Tally, float]:
    """Return what the callers saw, and how long the server took to end."""
    async with (
        running_server("--repository", repository) as server,
        grpc.aio.insecure_channel(server.address) as channel,
        closed_loops(predict_call(channel, ONE_PICTURE), callers=_CALLERS, until_failure=True) as tally,
    ):
        await answers(tally, answers_before)
        server.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        status = await server.wait()
        seconds = time.monotonic() - started
        assert status == 0
    return tally, seconds


async def test_sigterm_loses_nothing_accepted(quick_repository: Path, scale: Scale, figure: Figure) -> None:
    """T1. SIGTERM at random moments: every call is answered or refused at the door, and the exit status is 0."""
    repetitions = scale.choose(short=1, full=20)
    moments = [random.randint(1, _MOST_ANSWERS_BEFORE) for _ in range(repetitions)]
    runs = [await _sigterm_under_load(quick_repository, moment) for moment in moments]

    for tally, seconds in runs:
        assert tally.codes.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        # A call that was accepted and lost would fail with another text: that of a broken connection.
        assert tally.details == {"the server is stopping; retry elsewhere": _CALLERS}
        assert seconds < scale.choose(short=30, full=10)
    figure(
        promise="0 accepted requests lost on SIGTERM",
        tested=f"{repetitions} SIGTERMs at random moments under {_CALLERS} closed-loop callers",
        value=f"0 lost of {sum(tally.answered for tally, _ in runs):,}; every refusal was UNAVAILABLE; exit status 0"
        f" {repetitions} times, after at most {max(seconds for _, seconds in runs):.1f} s",
    )
