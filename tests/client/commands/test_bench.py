import json
import re
from pathlib import Path

import grpc
import pytest

from tests.client import commandline, fake_server
from tests.client.fake_server import BROKEN, Failure, FakeServer

QUICK = ("--warm-up-seconds", "0", "--requests", "40", "--seconds", "60")


async def test_bench_prints_a_report(server: FakeServer) -> None:
    """Throughput, percentiles, and a histogram whose bars add up to the requests."""
    finished = await commandline.run("bench", *QUICK, "--in-flight", "4", target=server.target)

    head, requests, throughput, latency, empty, _, *bars = finished.stdout.splitlines()
    assert head == "whitened version 2, 1 picture a request, 4 in flight"
    assert requests.startswith("requests    40 answered, 0 failed, in ")
    assert re.fullmatch(r"throughput  [\d,.]+ requests/s, [\d,.]+ images/s", throughput)
    assert re.fullmatch(r"latency     p50 [\d,.]+ ms, p90 [\d,.]+ ms, p99 [\d,.]+ ms, highest [\d,.]+ ms", latency)
    assert empty == ""
    assert sum(int(line.split()[3]) for line in bars) == 40
    assert (finished.status, finished.stderr) == (0, "")
    assert len(server.classifier.requests) == 41  # one looks whether the server is there


async def test_bench_sends_what_was_asked(server: FakeServer, pictures: Path) -> None:
    """Files are sent in turn, so many in each request, to the model that was named."""
    arguments = ("--images", "3", "--model", "quick", "--rate", "1000")

    finished = await commandline.run("bench", *QUICK, *arguments, str(pictures), target=server.target)

    assert "3 pictures a request, 1000 requests/s asked for" in finished.stdout
    first, second = server.classifier.requests[:2]
    assert [image.encoded for image in (*first.images, *second.images)] == [b"dog", b"ship"] * 3
    assert first.model == "quick"


async def test_bench_prints_json(server: FakeServer) -> None:
    """One object has everything for a program."""
    finished = await commandline.run("bench", *QUICK, "--json", target=server.target)

    report = json.loads(finished.stdout)
    assert (report["answered"], report["failed"], report["in_flight"]) == (40, 0, 16)
    assert set(report["latency_ms"]) == {"p50", "p90", "p99", "highest"}
    assert sum(bucket["requests"] for bucket in report["histogram"]) == 40


async def test_refusals_are_shown(server: FakeServer, pictures: Path) -> None:
    """Nothing is tried again behind the scenes: what the server refused is counted with its reason."""
    (pictures / "broken.png").write_bytes(BROKEN)

    finished = await commandline.run(
        "bench", *QUICK, "--images", "1", str(pictures / "dog.png"), str(pictures / "broken.png"), target=server.target
    )

    assert "requests    20 answered, 20 failed" in finished.stdout
    assert "failed      20: not a picture" in finished.stdout
    assert finished.status == 1


async def test_a_file_that_cannot_be_read(server: FakeServer, tmp_path: Path) -> None:
    """Load is not sent without it."""
    huge = tmp_path / "huge.png"
    huge.write_bytes(bytes(9 * 2**20))

    finished = await commandline.run("bench", str(huge), target=server.target)

    assert (finished.status, finished.stdout) == (2, "")
    assert finished.stderr == f"cifarserve: {huge}: expected at most 8,387,584 bytes, got more\n"


async def test_a_server_that_refuses_the_first_request(server: FakeServer) -> None:
    """What can never work is an error in one line, and no report; one attempt was made."""
    server.classifier.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full"))

    finished = await commandline.run("bench", *QUICK, target=server.target)

    assert finished == commandline.Finished(3, "", f"cifarserve: server at {server.target} is overloaded: queue full\n")
    assert len(server.classifier.requests) == 1


async def test_bench_without_a_server() -> None:
    """Nobody there is the line that every command has."""
    with fake_server.nobody_listens() as target:
        finished = await commandline.run("bench", target=target)

    assert (finished.status, finished.stdout) == (3, "")
    assert "connection refused" in finished.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--in-flight", "0", "0 is not in the range 1<=x<=10000."),
        ("--in-flight", "1000000", "1000000 is not in the range 1<=x<=10000."),
        ("--rate", "0", "0.0 is not in the range 0<x<=1000000.0."),
        ("--rate", "-3", "-3.0 is not in the range 0<x<=1000000.0."),
        ("--rate", "nan", "expected a number, got nan."),
        ("--rate", "fast", "'fast' is not a valid float range."),
        ("--seconds", "0", "0.0 is not in the range 0.1<=x<=86400."),
        ("--seconds", "inf", "inf is not in the range 0.1<=x<=86400."),
        ("--images", "0", "0 is not in the range 1<=x<=1024."),
        ("--requests", "0", "0 is not in the range x>=1."),
        ("--warm-up-seconds", "-1", "-1.0 is not in the range 0<=x<=3600."),
    ],
)
async def test_nonsense_is_refused(option: str, value: str, message: str) -> None:
    """A value that makes no sense is a line with the option and what is expected, before anything is sent."""
    finished = await commandline.run("bench", option, value, target="127.0.0.1:1")

    assert finished.status == 2
    assert f"Invalid value for '{option}': {message}" in finished.stderr


@pytest.mark.parametrize("option", ["--timeout-seconds=nan", "--timeout-seconds=inf", "--timeout-seconds=0"])
async def test_nonsense_before_the_command_is_refused_too(option: str) -> None:
    """A time limit that is none is no time limit."""
    finished = await commandline.run(option, "health", target="127.0.0.1:1")

    assert finished.status == 2
    assert "Invalid value for '--timeout-seconds'" in finished.stderr
