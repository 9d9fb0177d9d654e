"""Send the 10,000 CIFAR-10 test images through a running server over gRPC; print accuracy and images per second.

    python -m benchmarks.accuracy [--model NAME] [--target HOST:PORT]

Without --target it starts a server of its own, on the shipped models.
"""

import argparse
import asyncio
import itertools
import time

from benchmarks.cifar10 import TestImages, find_cifar10, read_test_images
from benchmarks.running import running_server
from client import ClassifierClient, RawRgb

_IMAGES_PER_REQUEST = 64
_REQUESTS_IN_FLIGHT = 4


async def classify_all(target: str, images: TestImages, *, model: str) -> tuple[list[str], str]:
    """Return the most probable label of every picture, in order, and who answered."""
    room = asyncio.Semaphore(_REQUESTS_IN_FLIGHT)
    async with ClassifierClient(target) as client:

        async def classify(start: int) -> list[str]:
            pictures = [RawRgb(rgb) for rgb in images.rgb[start : start + _IMAGES_PER_REQUEST]]
            async with room:
                answer = await client.predict(pictures, model=model)
            return [result.predictions[0].label for result in answer.results]

        starts = range(0, len(images.rgb), _IMAGES_PER_REQUEST)
        answers = await asyncio.gather(*(classify(start) for start in starts))
        identity = (await client.predict([RawRgb(images.rgb[0])], model=model)).model
    return list(
        itertools.chain.from_iterable(answers)
    ), f"{identity.name} version {identity.version}, sha256 {identity.digest[:12]}"


def report(target: str, images: TestImages, *, model: str) -> None:
    """Classify everything and print the figures."""
    started = time.perf_counter()
    labels, who = asyncio.run(classify_all(target, images, model=model))
    seconds = time.perf_counter() - started
    right = sum(found == label for found, label in zip(labels, images.labels, strict=True))
    print(f"{who}: accuracy {right / len(labels):.2%} ({right:,} of {len(labels):,})")
    print(f"{len(labels) / seconds:,.0f} images/s over gRPC, {_IMAGES_PER_REQUEST} a request, from one client process")


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--model", default="", help="model to ask; the server's default if not given")
    parser.add_argument("--target", default="", help="a running server; one is started if not given")
    flags = parser.parse_args()
    folder = find_cifar10()
    if folder is None:
        raise SystemExit("the CIFAR-10 data set is not at hand: set CIFAR10_DATA")
    images = read_test_images(folder)
    if flags.target:
        report(flags.target, images, model=flags.model)
        return
    with running_server() as server:
        report(server.address, images, model=flags.model)


if __name__ == "__main__":
    main()
