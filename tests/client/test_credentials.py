from collections.abc import AsyncIterator

import pytest

from client import BlockingClassifierClient, ClassifierClient, Credentials, Tls
from tests.client.fake_server import FakeServer

TOKEN = "5" * 32


async def test_token_goes_with_every_call(server: FakeServer) -> None:
    """Single requests and streams alike."""

    async def requests() -> AsyncIterator[list[bytes]]:
        for _ in range(2):
            yield [b"dog"]

    async with ClassifierClient(server.target, timeout_seconds=10, credentials=Credentials(token=TOKEN)) as client:
        await client.predict([b"dog"])
        async for _ in client.predict_stream(requests()):
            pass

    assert [metadata["authorization"] for metadata in server.classifier.metadata] == [f"Bearer {TOKEN}"] * 3


async def test_without_a_token_none_is_sent(client: ClassifierClient, server: FakeServer) -> None:
    """No empty header that a server would have to refuse."""
    await client.predict([b"dog"])

    assert "authorization" not in server.classifier.metadata[0]


@pytest.mark.parametrize("client", [ClassifierClient, BlockingClassifierClient])
def test_secrets_show_in_no_text(client: type[ClassifierClient | BlockingClassifierClient]) -> None:
    """A token or key is not printed with what holds it."""
    credentials = Credentials(Tls(ca=b"ca", certificate=b"public", key=b"secret key"), TOKEN)

    assert TOKEN not in repr(credentials)
    assert "secret key" not in repr(credentials)
    assert TOKEN not in repr(client("x:1", credentials=credentials))
