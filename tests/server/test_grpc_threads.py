import ctypes
import os
import threading
from collections.abc import Iterator

import grpc
import pytest

from server.cpus import usable_cpus
from server.grpc_threads import poller_beside_the_loop, without_interruptions
from tests.polling import eventually


@pytest.fixture
def cpus() -> Iterator[set[int]]:
    """The CPUs that the test's thread may use, and may use again afterwards."""
    usable = os.sched_getaffinity(0)
    yield usable
    os.sched_setaffinity(0, usable)


def poller() -> int:
    """The number of the thread that takes gRPC's events."""
    [thread] = [thread for thread in threading.enumerate() if "_poll_wrapper" in thread.name]
    assert thread.native_id
    return thread.native_id


@pytest.mark.skipif(usable_cpus() < 2, reason="one CPU: there is nowhere else to be")
async def test_poller_follows_the_loop_from_cpu_to_cpu(cpus: set[int]) -> None:
    """Wherever the loop runs, gRPC's poller may run there and nowhere else."""
    server = grpc.aio.server()
    async with poller_beside_the_loop():
        for cpu in sorted(cpus)[:2]:
            os.sched_setaffinity(0, {cpu})
            await eventually(lambda cpu=cpu: os.sched_getaffinity(poller()) == {cpu})  # type: ignore[misc]
    await server.stop(0)


def test_threads_started_inside_do_not_interrupt() -> None:
    """They have the batch policy, and so have the threads that they start; the caller has its own again afterwards."""
    policies = []

    def start_another() -> None:
        policies.append(os.sched_getscheduler(0))
        other = threading.Thread(target=lambda: policies.append(os.sched_getscheduler(0)))
        other.start()
        other.join()

    with without_interruptions():
        thread = threading.Thread(target=start_another)
        thread.start()
    thread.join()

    assert policies == [os.SCHED_BATCH, os.SCHED_BATCH]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_policy_that_somebody_chose_stays() -> None:
    """A server that was started with another policy keeps it, and so do gRPC's threads."""
    policies = []

    def start_as_chosen() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with without_interruptions():
            policies.append(os.sched_getscheduler(0))
        policies.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=start_as_chosen)
    thread.start()
    thread.join()

    assert policies == [os.SCHED_IDLE, os.SCHED_IDLE]


async def test_machine_that_forbids_it_serves_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a container may not place its threads, they stay as they are, and nothing fails."""
    asked = []

    def forbidden(*arguments: object) -> None:
        asked.append(arguments)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    with without_interruptions():
        server = grpc.aio.server()
    before = len(asked)
    async with poller_beside_the_loop():
        await eventually(lambda: len(asked) > before)
    await server.stop(0)


def test_kernel_says_which_cpu_the_thread_is_on(cpus: set[int]) -> None:
    """The question that following is built on has the answer that placing the thread promises."""
    for cpu in cpus:
        os.sched_setaffinity(0, {cpu})
        assert ctypes.CDLL(None).sched_getcpu() == cpu
