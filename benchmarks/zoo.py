"""Write docs/zoo.md: what each trained network is and costs, from the cards and from a server that serves it.

    python -m benchmarks.zoo [--repository DIR ...]

Every model's newest version is served alone, by a server of its own, and asked for test pictures over gRPC.
"""

import argparse
import asyncio
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.accuracy import classify_all
from benchmarks.cifar10 import TestImages, find_cifar10, read_test_images
from benchmarks.running import ROOT, running_server
from models.card import Card
from models.repository import Repository
from models.verification import read_card

_PAGE = ROOT / "docs" / "zoo.md"
_WARM_UP_IMAGES = 640
_FOLDER_FLAGS = ("--data", "--repository", "--run-folder")
_HEAD = """# The networks

Written by `python -m benchmarks.zoo` from the cards of the published versions: do not edit. Accuracy is that of one
plain forward pass on each of the 10,000 test pictures, which were read once, after training. ECE is the expected
calibration error with the card's temperature. Minutes are those of the training run; it shared its machine with other
work, so they are an upper bound. Images/s is what one client process gets from a server of the network over gRPC, 64
pictures a request, in the fastest precision that the card allows, on {cpus} CPUs.

| model | network | recipe | parameters | epochs | minutes | test accuracy | ECE | images/s served |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--repository", type=Path, action="append", help="folder of models; may be given repeatedly")
    parser.add_argument("--images", type=int, default=5000, help="pictures to ask each server for")
    flags = parser.parse_args()
    data = find_cifar10()
    if data is None:
        raise SystemExit("the CIFAR-10 data set is not at hand: set CIFAR10_DATA")
    images = read_test_images(data)
    folders = newest_versions(flags.repository or [ROOT / "models" / "pretrained", ROOT / "runs" / "models"])
    found = [(read_card(folder), served_per_second(folder, images, count=flags.images)) for folder in folders]
    _PAGE.write_text(page(sorted(found, key=lambda pair: -pair[0].test.accuracy)))
    print(f"wrote {_PAGE}")


def newest_versions(repositories: list[Path]) -> Iterator[Path]:
    """Yield the folder of the newest version of each model; of two models of one name, that of the first repository."""
    seen: set[str] = set()
    for repository in map(Repository, repositories):
        for model in repository.models():
            if model not in seen:
                seen.add(model)
                yield repository.folder(model)


def served_per_second(folder: Path, images: TestImages, *, count: int) -> float:
    """Return the images/s of a server that serves only the version in `folder`."""
    with tempfile.TemporaryDirectory() as repository:
        shutil.copytree(folder, Path(repository) / folder.parent.name / folder.name)
        with running_server("--repository", repository, "--default-model", folder.parent.name) as server:
            asyncio.run(classify_all(server.address, _first(images, _WARM_UP_IMAGES), model=""))
            started = time.perf_counter()
            asyncio.run(classify_all(server.address, _first(images, count), model=""))
            return count / (time.perf_counter() - started)


def page(found: list[tuple[Card, float]]) -> str:
    """Return the page for cards and their images/s."""
    rows = "\n".join(row(card, per_second) for card, per_second in found)
    commands = "\n".join(command(card) for card, _ in found)
    head = _HEAD.format(cpus=os.cpu_count())
    return f"{head}{rows}\n\nThe commands, without the names of folders:\n\n```\n{commands}\n```\n"


def row(card: Card, per_second: float) -> str:
    """Return a model's line."""
    config = card.training.config
    cells = [
        f"`{card.model}` {card.version}",
        f"`{card.architecture}`",
        str(config.get("recipe", "best")),
        f"{card.parameters:,}",
        str(config.get("epochs", "?")),
        f"{card.training.seconds / 60:.0f}",
        f"{card.test.accuracy:.2%}",
        f"{card.test.ece:.4f}",
        f"{per_second:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def command(card: Card) -> str:
    """Return the command of a card without the folders of the machine that it ran on."""
    kept: list[str] = []
    words = iter(shlex.split(card.training.command))
    for word in words:
        if word in _FOLDER_FLAGS:
            next(words, "")
        elif not word.startswith(tuple(f"{flag}=" for flag in _FOLDER_FLAGS)):
            kept.append(word)
    return shlex.join(kept)


def _first(images: TestImages, count: int) -> TestImages:
    return TestImages(images.rgb[:count], images.labels[:count])


if __name__ == "__main__":
    main()
