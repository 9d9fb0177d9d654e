import asyncio
import contextlib
import csv
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from tests.client import commandline, fake_server
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
    arguments = "predict --output jsonl --top-k 1 --model quick --version 2 -"

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

    finished = await commandline.run("predict", "--output", "jsonl", str(pictures), target=server.target)

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

    finished = await commandline.run("predict", "--output", "jsonl", str(tmp_path), target=server.target)

    names = [Path(json.loads(line)["file"]).name for line in finished.stdout.splitlines()]
    assert names == [f"{number:03}.png" for number in range(300)]
    assert len(server.classifier.requests) == 3
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
    for number in range(129):
        (tmp_path / f"{number:03}.png").write_bytes(b"cat")
    terminal, stderr = os.openpty()

    process = await commandline.start("predict", str(tmp_path), target=server.target, stderr=stderr)
    finished = await commandline.finish(process)
    os.close(stderr)
    shown = os.read(terminal, 2**16).decode()
    os.close(terminal)

    assert "100%" in shown
    assert len(finished.stdout.splitlines()) == 129 + len([FOOTER])


async def test_csv_is_for_other_programs(server: FakeServer, pictures: Path) -> None:
    """A reader of CSV finds a header, and a record for each picture."""
    finished = await commandline.run("predict", "--output", "csv", "--top-k", "1", str(pictures), target=server.target)

    dog, ship = csv.DictReader(finished.stdout.splitlines())
    assert (dog["label_1"], dog["probability_1"], ship["label_1"]) == ("dog", "0.75", "ship")


async def test_a_contact_sheet(server: FakeServer, pictures: Path, tmp_path: Path) -> None:
    """--sheet writes a PNG file with a place for each picture beside the ordinary output, and leaves nothing else."""
    sheet = tmp_path / "out" / "sheet.png"
    sheet.parent.mkdir()

    finished = await commandline.run("predict", "--sheet", str(sheet), str(pictures), target=server.target)

    assert (finished.status, finished.stderr, len(finished.stdout.splitlines())) == (0, "", 3)
    with Image.open(sheet) as image:
        assert (image.format, image.size) == ("PNG", (2 * 104 + 8, 132 + 8))
    assert list(sheet.parent.iterdir()) == [sheet]


async def test_a_sheet_that_cannot_be_written(server: FakeServer, pictures: Path) -> None:
    """It is one line before anything is sent, with the status for output."""
    sheet = pictures / "nosuch" / "sheet.png"

    finished = await commandline.run("predict", "--sheet", str(sheet), str(pictures), target=server.target)

    assert finished == commandline.Finished(5, "", f"cifarserve: {sheet}: No such file or directory\n")
    assert server.classifier.requests == []


async def test_a_sheet_of_too_many_pictures(server: FakeServer, tmp_path: Path) -> None:
    """It is refused before anything is sent."""
    for number in range(1001):
        (tmp_path / f"{number:04}.png").write_bytes(b"cat")

    finished = await commandline.run("predict", "--sheet", "sheet.png", str(tmp_path), target=server.target)

    assert finished.status == 2
    assert "--sheet: expected at most 1,000 pictures, got 1,001" in finished.stderr
    assert server.classifier.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected a FILE, a folder, - or --watch DIR, got none"),
        (("--watch", ".", "--sheet", "x.png"), "expected no --watch beside it"),
        (("--watch", "nosuch"), "Directory 'nosuch' does not exist"),
        (("--output", "xml", "x.png"), "'xml' is not one of"),
    ],
)
async def test_arguments_that_make_no_sense(arguments: tuple[str, ...], message: str) -> None:
    """They are refused with what is expected."""
    finished = await commandline.run("predict", *arguments, target="127.0.0.1:1")

    assert finished.status == 2
    assert message in " ".join(finished.stderr.replace("│", " ").split())


@contextlib.asynccontextmanager
async def watching(folder: Path, target: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `predict --watch` that has begun to watch; it is interrupted at the end."""
    arguments = ("predict", "--output", "csv", "--top-k", "1", "--watch", str(folder))
    process = await commandline.start(*arguments, target=target)
    try:
        await line_of(process)  # the header is printed when the folder is known
        yield process
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


async def test_watch_classifies_what_comes(server: FakeServer, pictures: Path) -> None:
    """Files that come into the folder are classified one after the other; those that lay there are not."""
    async with watching(pictures, server.target) as process:
        (pictures / "a.png").write_bytes(b"frog")
        first = await line_of(process)
        (pictures / "b.png").write_bytes(b"bird")
        second = await line_of(process)

    assert [line.split(",")[:2] for line in (first, second)] == [
        [str(pictures / "a.png"), "frog"],
        [str(pictures / "b.png"), "bird"],
    ]


async def test_watch_outlives_the_server(pictures: Path) -> None:
    """While the server is away, files wait, and that is said once; when it is back they are classified."""
    async with fake_server.running() as server:
        port = int(server.target.rpartition(":")[2])
    async with watching(pictures, server.target) as process:
        (pictures / "a.png").write_bytes(b"frog")
        assert process.stderr is not None
        async with asyncio.timeout(60):
            said = (await process.stderr.readline()).decode()
        async with fake_server.running(port):
            line = await line_of(process)

    assert said.startswith(f"cifarserve: no server at {server.target}: ")
    assert said.endswith("; trying again until it answers\n")
    assert line.split(",")[1] == "frog"
