import json

import pytest

from tests.client import commandline
from tests.client.fake_server import FakeServer

VERSIONS_HEADER = "model     version  state                         pinned  sha256"
REFUSED_ROW = "whitened  3        refused: model.pt is cut off          -"


@pytest.mark.parametrize("command", ["models", "models list"])
async def test_models_prints_a_table(server: FakeServer, command: str) -> None:
    """Models that do not answer are listed with the reason, and those that do with what operators should know."""
    finished = await commandline.run(*command.split(), target=server.target)

    state = "ready; pinned to 2; 3 refused: model.pt is cut off"
    assert finished.stdout.splitlines() == [
        f"model     version  {'state'.ljust(len(state))}  default  sha256     in repository",
        f"broken    -        {'unavailable: model.pt is damaged'.ljust(len(state))}           -          1",
        f"whitened  2        {state}  yes      ab12cd34…  1 2 3",
    ]
    assert finished.status == 0


@pytest.mark.parametrize("command", ["models --json", "models list --json"])
async def test_models_prints_json(server: FakeServer, command: str) -> None:
    """The same for programs, with the whole digest."""
    finished = await commandline.run(*command.split(), target=server.target)

    broken, whitened = (json.loads(line) for line in finished.stdout.splitlines())
    assert (broken["serving"], broken["state"], broken["reason"]) == (None, "unavailable", "model.pt is damaged")
    assert whitened["serving"] == {"name": "whitened", "version": 2, "digest": "ab12cd34" * 8}
    assert whitened["is_default"] is True
    assert whitened["refused"] == [{"version": 3, "reason": "model.pt is cut off"}]


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        ("list whitened", ["1        available", "2        serving                               ab12cd34…"]),
        ("rollback whitened", ["1        serving                       yes     ab12cd34…", "2        available"]),
        ("pin whitened 1", ["1        serving                       yes     ab12cd34…", "2        available"]),
        ("unload whitened", ["1        available", "2        available"]),
        ("load whitened", ["1        available", "2        serving                               ab12cd34…"]),
        ("unpin whitened", ["1        available", "2        serving                               ab12cd34…"]),
        ("reload whitened", ["1        available", "2        serving                               ab12cd34…"]),
    ],
)
async def test_what_was_decided_is_printed(server: FakeServer, command: str, rows: list[str]) -> None:
    """Each command prints every version of the model as it is afterwards."""
    finished = await commandline.run("models", *command.split(), target=server.target)

    lines = finished.stdout.splitlines()
    assert (lines[0], lines[3]) == (VERSIONS_HEADER, REFUSED_ROW)
    for line, row in zip(lines[1:3], rows, strict=True):
        assert line.removesuffix(" -").rstrip() == f"whitened  {row}"
    assert (finished.status, finished.stderr) == (0, "")


async def test_what_was_decided_for_programs(server: FakeServer) -> None:
    """With --json it is one object."""
    finished = await commandline.run("models", "pin", "whitened", "1", "--json", target=server.target)

    [line] = finished.stdout.splitlines()
    model = json.loads(line)
    assert (model["name"], model["pinned_version"]) == ("whitened", 1)
    assert [version["state"] for version in model["versions"]] == ["serving", "available", "refused"]


async def test_refused_version_is_one_line(server: FakeServer) -> None:
    """What the server refuses is one line with its reason, and the status says that trying again is in vain."""
    finished = await commandline.run("models", "pin", "whitened", "3", target=server.target)

    assert finished == commandline.Finished(4, "", "cifarserve: refused, version 2 goes on: model.pt is cut off\n")


async def test_version_must_be_a_number(server: FakeServer) -> None:
    """A version that cannot be one is explained before anything is sent."""
    finished = await commandline.run("models", "pin", "whitened", "0", target=server.target)

    assert finished.status == 2
    assert "0 is not in the range x>=1." in finished.stderr
