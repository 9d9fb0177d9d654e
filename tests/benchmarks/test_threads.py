import os
import subprocess
import sys
import time

from benchmarks.threads import Usage, threads_of


def test_usage_is_that_of_the_load_alone() -> None:
    """What a thread did before is taken off; a thread that was not there before counts whole."""
    before, after = Usage("engine", 100.0, 5.0, 7, 1), Usage("engine", 350.0, 6.0, 10, 1)

    assert after.since(before) == Usage("engine", 250.0, 1.0, 3, 0)
    assert after.since(None) == after


def test_threads_of_children_are_the_engine() -> None:
    """The process's own first thread is the event loop; what runs in the processes that it started is the engine."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = time.process_time()
        while time.process_time() < started + 0.05:
            pass
        threads = dict(threads_of(os.getpid()))
        assert child.stdin
        child.stdin.close()

    assert threads[os.getpid()].name == "event loop"
    assert threads[os.getpid()].running_us > 50_000
    assert threads[child.pid].name == "engine"
