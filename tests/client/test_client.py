from pathlib import Path

import pytest

from client import (
    ClassifierClient,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    PictureMissing,
    Prediction,
    RawRgb,
    ServerFailed,
    ServerUnavailable,
)
from tests.client import fake_server
from tests.client.fake_server import BROKEN, FakeServer


async def test_predict_answers_in_the_order_of_the_images(client: ClassifierClient) -> None:
    """Each picture gets the predictions that are its own, and the answer says who gave them."""
    answer = await client.predict([b"dog", b"ship", b"dog"], top_k=2)

    assert [result.predictions[0].label for result in answer.results] == ["dog", "ship", "dog"]
    assert answer.results[1].predictions == (Prediction("ship", 8, 0.75), Prediction("airplane", 0, 0.1875))
    assert (answer.model.name, answer.model.version) == ("whitened", 2)
    assert answer.timings.batch_size == 3


async def test_predict_sends_what_was_asked(client: ClassifierClient, server: FakeServer) -> None:
    """Model, version, top_k, files and raw pixels arrive as they were given."""
    await client.predict([b"cat", RawRgb(bytes(3072))], model="quick", version=7, top_k=4)

    [request] = server.classifier.requests
    assert (request.model, request.version, request.top_k) == ("quick", 7, 4)
    assert [image.WhichOneof("content") for image in request.images] == ["encoded", "rgb"]
    assert request.images[1].rgb == bytes(3072)


async def test_one_bad_picture_leaves_the_others_alone(client: ClassifierClient) -> None:
    """A picture that the server cannot read has an error, its neighbours have predictions."""
    answer = await client.predict([b"dog", BROKEN, b"ship"])

    assert [result.error for result in answer.results] == [None, "not a picture", None]
    assert [len(result.predictions) for result in answer.results] == [1, 0, 1]


async def test_missing_results_are_noticed(client: ClassifierClient, server: FakeServer) -> None:
    """An answer that cannot be matched to the pictures is an error that says both numbers."""
    server.classifier.results_to_drop = 1

    with pytest.raises(ServerFailed, match=f"expected 2 results from {server.target}, got 1"):
        await client.predict([b"dog", b"ship"])


async def test_nobody_listens() -> None:
    """A server that is down is one line with its address, the reason and what to do."""
    with fake_server.nobody_listens() as target:
        async with ClassifierClient(target) as client:
            with pytest.raises(ServerUnavailable) as caught:
                await client.predict([b"dog"])

    assert str(caught.value) == f"no server at {target}: connection refused; start one with cifarserve-server"


async def test_unknown_host() -> None:
    """A host that does not exist is named with the reason."""
    async with ClassifierClient("nosuchhost.invalid:50051") as client:
        with pytest.raises(ServerUnavailable, match=r"no server at nosuchhost\.invalid:50051: "):
            await client.predict([b"dog"])


async def test_each_call_has_a_deadline(server: FakeServer) -> None:
    """A server that never answers costs the caller `timeout_seconds`, not forever."""
    server.classifier.gate.clear()

    async with ClassifierClient(server.target, timeout_seconds=0.05) as client:
        with pytest.raises(DeadlineExceeded, match=rf"no answer from {server.target} within 0\.05 s"):
            await client.predict([b"dog"])


async def test_a_call_may_have_a_deadline_of_its_own(client: ClassifierClient, server: FakeServer) -> None:
    """It takes the place of the client's, and the error says it."""
    server.classifier.gate.clear()

    with pytest.raises(DeadlineExceeded, match=rf"no answer from {server.target} within 0\.05 s"):
        await client.predict([b"dog"], timeout_seconds=0.05)


async def test_predict_many_answers_in_the_order_of_the_files(client: ClassifierClient, tmp_path: Path) -> None:
    """A folder's files come sorted by name, and one that cannot be read has an error of its own."""
    for name in ("dog", "cat", "ship"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    (tmp_path / "broken.png").write_bytes(BROKEN)

    answers = [picture async for picture in client.predict_many(tmp_path, top_k=2)]

    assert [Path(picture.name).stem for picture in answers] == ["broken", "cat", "dog", "ship"]
    assert [picture.result.error for picture in answers] == ["not a picture", None, None, None]
    assert [len(picture.result.predictions) for picture in answers] == [0, 2, 2, 2]


async def test_predict_many_takes_any_iterable(client: ClassifierClient, server: FakeServer, tmp_path: Path) -> None:
    """Files and folders from a generator are read as they come, many in a request; a missing one is a result."""
    (tmp_path / "folder").mkdir()
    for number in range(300):
        (tmp_path / "folder" / f"{number:03}.png").write_bytes(b"dog")
    (tmp_path / "ship.png").write_bytes(b"ship")
    names = (str(tmp_path / name) for name in ("ship.png", "nosuch.png", "folder"))

    answers = [picture async for picture in client.predict_many(names)]

    assert len(answers) == 302
    assert answers[0].result.predictions[0].label == "ship"
    assert answers[1].result.error == "No such file or directory"
    assert {picture.result.predictions[0].label for picture in answers[2:]} == {"dog"}
    assert len(server.classifier.requests) == 3


async def test_predict_many_misses_a_folder(client: ClassifierClient) -> None:
    """The one folder that was named and is not there is an error."""
    with pytest.raises(PictureMissing, match="nosuch: no such file or folder"):
        [picture async for picture in client.predict_many("nosuch")]


async def test_too_large_a_request_is_not_sent(client: ClassifierClient, server: FakeServer) -> None:
    """Pictures that the server would not take together are refused with both sizes."""
    with pytest.raises(InvalidRequest, match=r"expected at most 8,388,608 bytes in a request, got 10,485,7\d\d"):
        await client.predict([bytes(5 * 2**20), bytes(5 * 2**20)])

    assert server.classifier.requests == []


async def test_list_models(client: ClassifierClient) -> None:
    """Models that do not answer are listed with the reason."""
    broken, whitened = await client.list_models()

    assert (broken.state, broken.reason, broken.serving) == ("unavailable", "model.pt is damaged", None)
    assert (whitened.state, whitened.versions, whitened.is_default) == ("ready", (1, 2, 3), True)


async def test_get_model(client: ClassifierClient) -> None:
    """A model is described by name, and an unknown one is an error."""
    details = await client.get_model("whitened")

    assert (details.model.version, details.labels[3], details.test_accuracy) == (2, "cat", 0.94)
    assert details.batch_costs_ms == {1: 0.5, 64: 4.0}
    with pytest.raises(NotFound, match="unknown model 'nosuch': expected one of whitened"):
        await client.get_model("nosuch")


async def test_health(client: ClassifierClient, server: FakeServer) -> None:
    """Health is a yes or a no for what the server knows, and an error for what it does not."""
    assert await client.health()

    await server.health.serve(serving=False)

    assert not await client.health()
    with pytest.raises(NotFound):
        await client.health("model/nosuch")
