"""Where the CPU time of a request goes: each thread's share, how long it waited for a CPU, how often it was stopped.

Loads the echo and then the server, `quick`, one picture a request, and reads the kernel's own accounting.

    python -m benchmarks.threads [--in-flight 128]
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import PREDICT, require_h2load, run_load
from benchmarks.running import running_server
from benchmarks.serving import Endpoint, echo_server, make_bodies

_WARM_UP_REQUESTS = 5_000
_REQUESTS = 16_000
_LEAST_SHARE = 0.01
# Of the threads without a name of their own only gRPC's poller has much to do.
_ROLES = {"event_engine": "gRPC's core", "python": "gRPC's poller", "python3": "gRPC's poller"}


@dataclass(frozen=True)
class Usage:
    """What one thread has used so far, or used during a load.

    Attributes:
        name: what it is there for.
        running_us: time on a CPU, in microseconds.
        waiting_us: time ready to run, without a CPU.
        gave_up: times that it had nothing to do.
        interrupted: times that another thread took its CPU.
    """

    name: str
    running_us: float
    waiting_us: float
    gave_up: int
    interrupted: int

    def since(self, earlier: "Usage | None") -> "Usage":
        """Return what was used after `earlier`; None: after the thread's start."""
        if earlier is None:
            return self
        return Usage(
            self.name,
            self.running_us - earlier.running_us,
            self.waiting_us - earlier.waiting_us,
            self.gave_up - earlier.gave_up,
            self.interrupted - earlier.interrupted,
        )


def main() -> None:
    """Load both and print a table for each."""
    parser = argparse.ArgumentParser(description="CPU time of a request, by thread")
    parser.add_argument("--in-flight", type=int, default=128, help="requests under way at any time")
    flags = parser.parse_args()
    require_h2load()
    with echo_server() as echo:
        show("echo", echo, in_flight=flags.in_flight)
    with running_server() as server:
        show("server", Endpoint(server.address, server.process.pid), in_flight=flags.in_flight)


def show(title: str, endpoint: Endpoint, *, in_flight: int) -> None:
    """Load an endpoint and print what its threads used for each request."""
    body = make_bodies().rgb
    run_load(endpoint.address, PREDICT, body, requests=_WARM_UP_REQUESTS, in_flight=in_flight)
    before = dict(threads_of(endpoint.pid))
    result = run_load(endpoint.address, PREDICT, body, requests=_REQUESTS, in_flight=in_flight)
    used = [usage.since(before.get(number)) for number, usage in threads_of(endpoint.pid)]
    total_us = sum(usage.running_us for usage in used)
    print(f"{title}: {result.per_second:,.0f} requests/s, one every {1e6 / result.per_second:.0f} us")
    print(f"  {'for each request':20} {'running us':>10} {'waiting us':>10} {'gave up':>8} {'interrupted':>11}")
    for usage in sorted(used, key=lambda usage: -usage.running_us):
        if usage.running_us > _LEAST_SHARE * total_us:
            print(
                f"  {usage.name:20} {usage.running_us / _REQUESTS:10.1f} {usage.waiting_us / _REQUESTS:10.1f}"
                f" {usage.gave_up / _REQUESTS:8.2f} {usage.interrupted / _REQUESTS:11.2f}"
            )
    print(f"  {'all':20} {total_us / _REQUESTS:10.1f}")


def threads_of(pid: int, *, child: bool = False) -> Iterator[tuple[int, Usage]]:
    """Yield the number and the usage of each thread of a process and of the processes that it started."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        number = int(task.name)
        role = "engine" if child else "event loop" if number == pid else ""
        try:
            usage = _usage(task, role)
            children = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        yield number, usage
        for other in children:
            yield from threads_of(int(other), child=True)


def _usage(task: Path, role: str) -> Usage:
    running_ns, waiting_ns, _ = map(int, (task / "schedstat").read_text().split())
    status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
    return Usage(
        role or _ROLES.get(status["Name"], status["Name"]),
        running_ns / 1000,
        waiting_ns / 1000,
        int(status["voluntary_ctxt_switches"]),
        int(status["nonvoluntary_ctxt_switches"]),
    )


if __name__ == "__main__":
    main()
