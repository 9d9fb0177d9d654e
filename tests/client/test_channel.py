import asyncio

import grpc
import pytest

from client import ClassifierClient, ClientError, Overloaded, ServerUnavailable
from tests.client import fake_server
from tests.client.fake_server import Failure, FakeServer

UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE, "the server is draining")


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_transient_failures_are_retried(
    client: ClassifierClient, server: FakeServer, code: grpc.StatusCode
) -> None:
    """A server that is busy or away for a moment costs the caller no more than a moment."""
    server.classifier.failures.extend([Failure(code, "for a moment"), Failure(code, "for a moment")])

    answer = await client.predict([b"dog"])

    assert answer.results[0].predictions[0].label == "dog"
    assert len(server.classifier.requests) == 3


async def test_large_requests_are_retried_too(client: ClassifierClient, server: FakeServer) -> None:
    """A request far larger than what gRPC keeps by default for another attempt gets one."""
    server.classifier.failures.append(UNAVAILABLE)

    await client.predict([bytes(7 * 2**20)])

    assert len(server.classifier.requests) == 2


async def test_retries_end(client: ClassifierClient, server: FakeServer) -> None:
    """After four attempts the caller learns what the server said."""
    server.classifier.failures.extend([UNAVAILABLE] * 9)

    with pytest.raises(ServerUnavailable, match=f"server at {server.target} is unavailable: the server is draining"):
        await client.predict([b"dog"])

    assert len(server.classifier.requests) == 4


async def test_retries_wait_as_long_as_the_server_says(client: ClassifierClient, server: FakeServer) -> None:
    """A pushback takes the place of the client's own, shorter pause."""
    server.classifier.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", pushback_ms=300))

    await client.predict([b"dog"])

    first, second = server.classifier.arrived_at
    assert second - first >= 0.3


async def test_a_server_can_forbid_retries(client: ClassifierClient, server: FakeServer) -> None:
    """A negative pushback means that there is no use in trying again."""
    server.classifier.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", pushback_ms=-1))

    with pytest.raises(Overloaded, match="is overloaded: queue full"):
        await client.predict([b"dog"])

    assert len(server.classifier.requests) == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL])
async def test_permanent_failures_are_not_retried(
    client: ClassifierClient, server: FakeServer, code: grpc.StatusCode
) -> None:
    """What would fail again is tried once."""
    server.classifier.failures.append(Failure(code, "no"))

    with pytest.raises(ClientError):
        await client.predict([b"dog"])

    assert len(server.classifier.requests) == 1


async def test_a_retry_goes_to_another_server(server: FakeServer) -> None:
    """With two servers behind one name, one that is going away costs no call."""
    async with fake_server.running() as other:
        server.classifier.failures.extend([UNAVAILABLE] * 9)
        async with ClassifierClient(f"ipv4:{server.target},{other.target}") as client:
            for _ in range(4):
                await client.predict([b"dog"])

        assert len(other.classifier.requests) == 4


async def test_a_server_that_does_not_serve_is_passed_over(server: FakeServer) -> None:
    """With two servers behind one name, one that says NOT_SERVING gets no call while the other serves."""
    async with fake_server.running() as other:
        await server.health.serve(serving=False)
        async with ClassifierClient(f"ipv4:{server.target},{other.target}") as client:
            for _ in range(8):
                await client.predict([b"dog"])

        assert len(other.classifier.requests) == 8
        assert server.classifier.requests == []


async def test_a_lone_server_that_does_not_serve_can_be_asked(client: ClassifierClient, server: FakeServer) -> None:
    """A server that is starting refuses predictions in plain words, and still lists its models and tells its health."""
    await server.health.serve(serving=False)
    with pytest.raises(
        ServerUnavailable, match=f"server at {server.target} is unavailable: it is starting or stopping"
    ):
        await client.predict([b"dog"])

    assert not await client.health()
    assert len(await client.list_models()) > 0


async def test_calls_are_spread_over_all_servers(server: FakeServer) -> None:
    """With two servers behind one name, as behind a headless service, each gets every other call."""
    async with fake_server.running() as other:
        async with ClassifierClient(f"ipv4:{server.target},{other.target}") as client:
            await _until_both_answer(client, server, other)
            server.classifier.requests.clear()
            other.classifier.requests.clear()
            for _ in range(20):
                await client.predict([b"dog"])

        assert (len(server.classifier.requests), len(other.classifier.requests)) == (10, 10)


async def test_calls_share_a_connection(client: ClassifierClient, server: FakeServer) -> None:
    """Calls, also many at once, come over one connection, which is not opened for each."""
    await asyncio.gather(*(client.predict([b"dog"]) for _ in range(20)))

    assert len(server.classifier.peers) == 1


async def test_a_caller_can_forbid_retries(server: FakeServer) -> None:
    """With one attempt, the first refusal is the answer."""
    server.classifier.failures.append(UNAVAILABLE)

    async with ClassifierClient(server.target, max_attempts=1) as client:
        with pytest.raises(ServerUnavailable):
            await client.predict([b"dog"])

    assert len(server.classifier.requests) == 1


@pytest.mark.parametrize("max_attempts", [0, 6])
def test_attempts_have_bounds(max_attempts: int) -> None:
    """What gRPC would silently change is refused."""
    with pytest.raises(ValueError, match=f"max_attempts: expected 1 to 5, got {max_attempts}"):
        ClassifierClient(max_attempts=max_attempts)


async def test_a_deadline_covers_all_attempts(server: FakeServer) -> None:
    """A server that says to come back later than the caller has time is not waited for."""
    server.classifier.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", pushback_ms=60_000))

    async with ClassifierClient(server.target, timeout_seconds=60) as client:
        with pytest.raises(ClientError):
            await client.predict([b"dog"], timeout_seconds=0.2)

    assert len(server.classifier.requests) == 1


async def _until_both_answer(client: ClassifierClient, *servers: FakeServer) -> None:
    """At first only one connection may be there."""
    async with asyncio.timeout(30):
        while not all(server.classifier.requests for server in servers):
            await client.predict([b"dog"])
