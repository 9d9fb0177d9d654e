import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import Answer, BlockingClassifierClient, ServerUnavailable
from tests.client import fake_server
from tests.client.fake_server import FakeServer


async def test_every_method_waits_for_its_answer(server: FakeServer) -> None:
    """Code without an event loop gets the values that asyncio code gets."""

    def work() -> None:
        with BlockingClassifierClient(server.target) as client:
            assert client.predict([b"dog"], top_k=2).results[0].predictions[0].label == "dog"
            assert [model.name for model in client.list_models()] == ["broken", "whitened"]
            assert client.get_model().model.name == "whitened"
            assert client.health()

    await asyncio.to_thread(work)


async def test_stream(server: FakeServer) -> None:
    """A plain iterable goes in, and pairs of position and answer come out."""

    def work() -> dict[int, str]:
        with BlockingClassifierClient(server.target) as client:
            pairs = list(client.predict_stream([[b"dog"], [b"ship"], [b"cat"]]))
        return {
            position: answer.results[0].predictions[0].label for position, answer in pairs if isinstance(answer, Answer)
        }

    assert await asyncio.to_thread(work) == {0: "dog", 1: "ship", 2: "cat"}


async def test_predict_many(server: FakeServer, tmp_path: Path) -> None:
    """A folder goes in, and its pictures come out one by one; leaving early ends it."""
    for number in range(300):
        (tmp_path / f"{number:03}.png").write_bytes(b"dog")

    def work() -> tuple[list[str], str]:
        with BlockingClassifierClient(server.target) as client:
            names = [Path(picture.name).stem for picture in client.predict_many(tmp_path)]
            return names, next(client.predict_many(tmp_path)).result.predictions[0].label

    assert await asyncio.to_thread(work) == ([f"{number:03}" for number in range(300)], "dog")


async def test_a_stream_may_be_left_early(server: FakeServer) -> None:
    """Leaving an endless stream ends it, and the client closes without waiting for the rest."""

    def forever() -> Iterator[list[bytes]]:
        while True:
            yield [b"dog"]

    def work() -> None:
        with BlockingClassifierClient(server.target) as client:
            next(client.predict_stream(forever()))

    await asyncio.to_thread(work)


def test_errors_are_those_of_the_client() -> None:
    """A failure is raised in the caller's thread."""
    with (
        fake_server.nobody_listens() as target,
        BlockingClassifierClient(target) as client,
        pytest.raises(ServerUnavailable, match=f"no server at {target}: connection refused"),
    ):
        client.predict([b"dog"])


async def test_leaving_ends_its_threads(server: FakeServer) -> None:
    """Nothing runs on after the client was left, whatever it was used for."""

    def work() -> None:
        before = set(threading.enumerate())
        with BlockingClassifierClient(server.target) as client:
            assert len(list(client.predict_stream([[b"dog"]]))) == 1

        assert set(threading.enumerate()) <= before

    await asyncio.to_thread(work)
