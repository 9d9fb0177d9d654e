"""A fake server and a client that is connected to it."""

from collections.abc import AsyncIterator

import pytest

from client import ClassifierClient
from tests.client import fake_server
from tests.client.fake_server import FakeServer


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server.running() as running:
        yield running


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[ClassifierClient]:
    async with ClassifierClient(server.target, timeout_seconds=10) as connected:
        yield connected
