"""The threads of an engine that compute; made before anything is loaded.

On Linux each thread has a scheduling policy of its own, which new threads inherit, and a process without
privileges cannot leave the idle policy again. So the threads that will compute are made first, and wait;
then the main thread, which loads and warms up, is left what the processor has to spare.
Knows no torch itself, and not what is computed.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future


class Lanes:
    """Threads that wait for their work, made with the priority that the process has now."""

    def __init__(self, count: int) -> None:
        self._work: Future[Callable[[], None]] = Future()
        # Daemons: when loading fails there is no work, and the process ends with the main thread.
        self._threads = [threading.Thread(target=self._wait_and_run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def run(self, work: Callable[[], None]) -> None:
        """Run `work` in every thread; return when all have ended."""
        self._work.set_result(work)
        for thread in self._threads:
            thread.join()

    def _wait_and_run(self) -> None:
        self._work.result()()


def yield_the_processor() -> None:
    """Run the calling thread only when nothing else wants to: sched(7), SCHED_IDLE."""
    with contextlib.suppress(OSError):  # some sandboxes forbid it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
