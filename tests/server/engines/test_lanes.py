import os
import subprocess
import sys
import threading

from server.engines.lanes import Lanes
from tests.conftest import ROOT

PROGRAM = """
import os
from server.engines.lanes import Lanes, yield_the_processor
lanes = Lanes(2)
yield_the_processor()
tell = lambda: os.write(1, f"{os.sched_getscheduler(0)}\\n".encode())  # one call: lanes tell at the same time
tell()
lanes.run(tell)
"""


def test_lanes_keep_the_priority_that_loading_gives_up() -> None:
    """The main thread runs when nothing else wants to; the threads that compute run as ever."""
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT, timeout=30
    )

    assert finished.stdout.split() == [str(os.SCHED_IDLE), str(os.SCHED_OTHER), str(os.SCHED_OTHER)]


def test_every_lane_runs_the_work() -> None:
    """As many threads as lanes run the work at the same time."""
    together = threading.Barrier(3)

    def meet() -> None:
        together.wait(timeout=10)

    Lanes(3).run(meet)

    assert not together.broken
