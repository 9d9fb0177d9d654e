import json

from tests.client import commandline
from tests.client.fake_server import FakeServer


async def test_models_prints_a_table(server: FakeServer) -> None:
    """Models that do not answer are listed with the reason."""
    finished = await commandline.run("models", target=server.target)

    assert finished.stdout.splitlines() == [
        "model     version  state                             default  sha256     in repository",
        "broken    -        unavailable: model.pt is damaged           -          1",
        "whitened  2        ready                             yes      ab12cd34…  1 2",
    ]
    assert finished.status == 0


async def test_models_prints_json(server: FakeServer) -> None:
    """The same for programs, with the whole digest."""
    finished = await commandline.run("models", "--json", target=server.target)

    broken, whitened = (json.loads(line) for line in finished.stdout.splitlines())
    assert (broken["serving"], broken["state"], broken["reason"]) == (None, "unavailable", "model.pt is damaged")
    assert whitened["serving"] == {"name": "whitened", "version": 2, "digest": "ab12cd34" * 8}
    assert whitened["is_default"] is True
