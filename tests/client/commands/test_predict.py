import json
import os
from pathlib import Path

from tests.client import commandline
from tests.client.fake_server import BROKEN, FakeServer

FOOTER = "whitened version 2 (sha256 ab12cd34…)"


async def test_predict_prints_a_table(server: FakeServer, pictures: Path) -> None:
    """Each picture is a row in the order of the arguments, and the last line names the model."""
    ship, dog = str(pictures / "my ship.jpg"), str(pictures / "dog.png")

    finished = await commandline.run("predict", "--top-k", "2", ship, dog, target=server.target)

    assert finished.stdout.splitlines() == [
        f"{ship}  ship        75.0%  airplane    18.8%",
        f"{dog}      dog         75.0%  airplane    18.8%",
        FOOTER,
    ]
    assert (finished.status, finished.stderr) == (0, "")


async def test_predict_takes_folders(server: FakeServer, pictures: Path) -> None:
    """A folder is its pictures; three labels are printed when nobody says how many."""
    finished = await commandline.run("predict", str(pictures), target=server.target)

    rows = finished.stdout.splitlines()
    assert [row.split("  ")[0] for row in rows] == [str(pictures / "dog.png"), str(pictures / "my ship.jpg"), FOOTER]
    assert rows[0].count("%") == 3


async def test_predict_takes_standard_input_and_prints_json(server: FakeServer) -> None:
    """A hyphen is the picture on standard input; JSON has everything that is known, and no footer."""
    arguments = "predict --json --top-k 1 --model quick --version 2 -"

    finished = await commandline.run(*arguments.split(), target=server.target, stdin=b"frog")

    [line] = finished.stdout.splitlines()
    assert json.loads(line) == {
        "file": "-",
        "predictions": [{"label": "frog", "index": 6, "probability": 0.75}],
        "model": "whitened",
        "version": 2,
        "digest": "ab12cd34" * 8,
    }
    [request] = server.classifier.requests
    assert (request.model, request.version, request.top_k) == ("quick", 2, 1)


async def test_a_bad_picture_is_a_row_and_status_1(server: FakeServer, pictures: Path) -> None:
    """Pictures that cannot be classified have their error in their row, and the others are answered."""
    (pictures / "cats.png").write_bytes(BROKEN)
    (pictures / "huge.png").write_bytes(bytes(9 * 2**20))

    finished = await commandline.run("predict", "--json", str(pictures), target=server.target)

    cats, dog, huge, ship = (json.loads(line) for line in finished.stdout.splitlines())
    assert cats == {"file": str(pictures / "cats.png"), "error": "not a picture"}
    assert huge == {"file": str(pictures / "huge.png"), "error": "expected at most 8,387,584 bytes, got more"}
    assert [row["predictions"][0]["label"] for row in (dog, ship)] == ["dog", "ship"]
    assert (finished.status, finished.stderr) == (1, "")


async def test_a_lone_bad_picture_is_no_different(server: FakeServer, pictures: Path) -> None:
    """One bad picture alone looks as it does among others, though the server refuses it as a request."""
    cats = pictures / "cats.png"
    cats.write_bytes(BROKEN)

    finished = await commandline.run("predict", str(cats), target=server.target)

    assert finished == commandline.Finished(1, f"{cats}  error: not a picture\n", "")


async def test_many_pictures(server: FakeServer, tmp_path: Path) -> None:
    """A folder of many pictures is sent in several requests and printed in order, without a progress bar in a pipe."""
    for number in range(300):
        (tmp_path / f"{number:03}.png").write_bytes(b"cat")

    finished = await commandline.run("predict", "--json", str(tmp_path), target=server.target)

    names = [Path(json.loads(line)["file"]).name for line in finished.stdout.splitlines()]
    assert names == [f"{number:03}.png" for number in range(300)]
    assert len(server.classifier.requests) == 5
    assert (finished.status, finished.stderr) == (0, "")


async def test_a_swap_in_between_is_not_hidden(server: FakeServer, tmp_path: Path) -> None:
    """When two versions answered, both are named."""
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(bytes(3 * 2**20))
    server.classifier.versions.append(3)

    finished = await commandline.run("predict", str(tmp_path), target=server.target)

    assert {line.split(" (")[0] for line in finished.stdout.splitlines()[-2:]} == {
        "whitened version 2",
        "whitened version 3",
    }


async def test_a_missing_file(pictures: Path, server: FakeServer) -> None:
    """A file that is not there is one line that names it, and nothing was sent for the others."""
    finished = await commandline.run("predict", str(pictures), "nosuch.jpg", target=server.target)

    assert finished == commandline.Finished(2, "", "cifarserve: nosuch.jpg: no such file or folder\n")
    assert server.classifier.requests == []


async def test_a_person_at_the_terminal_sees_progress(server: FakeServer, tmp_path: Path) -> None:
    """Many pictures whose rows go into a file have a progress bar on the terminal."""
    for number in range(65):
        (tmp_path / f"{number:03}.png").write_bytes(b"cat")
    terminal, stderr = os.openpty()

    process = await commandline.start("predict", str(tmp_path), target=server.target, stderr=stderr)
    finished = await commandline.finish(process)
    os.close(stderr)
    shown = os.read(terminal, 2**16).decode()
    os.close(terminal)

    assert "100%" in shown
    assert len(finished.stdout.splitlines()) == 65 + len([FOOTER])
