"""Nothing that a server decides depends on the time of day, which may be set at any moment."""

from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.reliability.conftest import Figure, Scale
from tests.reliability.load import ONE_PICTURE, answers, closed_loops, predict_call
from tests.server.process import running_server

_JUMPS = ("+1h", "-1h", "+300d", "-300d")


@dataclass(frozen=True)
class Clock:
    """The wall clock of programs that are started while it is there."""

    file: Path

    def set(self, offset: str) -> None:
        """Let it show a time that is that far from the true one."""
        self.file.write_text(offset)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that shows the true time."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("libfaketime (Debian's package faketime) is not on this machine")
    clock = Clock(tmp_path / "clock")
    clock.set("+0s")
    monkeypatch.setenv("LD_PRELOAD", str(libraries[0]))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock.file))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")  # the file is looked at each time
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    return clock


async def test_a_jump_of_the_clock_is_not_noticed(
    quick_repository: Path, clock: Clock, scale: Scale, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T23. The wall clock jumps by hours and months under load: every request is answered within its deadline."""
    each = scale.choose(short=50, full=1_000)
    async with running_server("--repository", quick_repository, "--model-control", "poll") as server:
        monkeypatch.delenv("LD_PRELOAD")
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            closed_loops(predict_call(channel, ONE_PICTURE, timeout=30), callers=4) as tally,
        ):
            for jump in _JUMPS:
                clock.set(jump)
                await answers(tally, tally.answered + each)
        assert await server.stop() == 0

    assert tally.failed == 0
    figure(
        promise="serving does not depend on the time of day",
        tested=f"the server's wall clock jumps to {', '.join(_JUMPS)} under 4 closed-loop callers"
        " with deadlines of 30 s",
        value=f"0 errors in {tally.answered:,} requests",
    )
