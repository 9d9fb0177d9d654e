"""`make demo`: start the server, classify pictures through the command line, show a few metrics, stop."""

import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.cifar10 import find_cifar10, read_test_images
from benchmarks.running import ENVIRONMENT, RunningServer, running_server

_SHOWN = ("cifarserve_images_total", "cifarserve_batches_total", "cifarserve_requests_total")


def sample_pictures(folder: Path) -> list[Path]:
    """Put a photograph of a cat (CC0, from scikit-image) and, where at hand, ten test images into `folder`."""
    from skimage import data  # a slow import

    photo = folder / "cat_photo.jpg"
    Image.fromarray(data.chelsea()).save(photo, quality=92)
    return [photo, *_test_pictures(folder)]


def _test_pictures(folder: Path) -> Iterator[Path]:
    """Write the first test image of each class."""
    cifar10 = find_cifar10()
    if cifar10 is None:
        print("the CIFAR-10 data set is not at hand (CIFAR10_DATA): classifying the photograph alone")
        return
    images = read_test_images(cifar10)
    for label in sorted(set(images.labels)):
        place = images.labels.index(label)
        path = folder / f"test_{place:04}_{label}.png"
        Image.frombytes("RGB", (32, 32), images.rgb[place]).save(path)
        yield path


def run_client(server: RunningServer, *arguments: str, folder: Path) -> None:
    """Run the command line as a user would, and show what it prints."""
    print(f"\n$ cifarserve {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "client", *arguments]
    subprocess.run(command, check=True, cwd=folder, env={**ENVIRONMENT, "CIFARSERVE_TARGET": server.address})


def show_metrics(server: RunningServer) -> None:
    """Print the counters that the demo moved."""
    print(f"\n$ curl {server.metrics_url}")
    with urllib.request.urlopen(server.metrics_url) as page:
        print(*(line for line in page.read().decode().splitlines() if line.startswith(_SHOWN)), sep="\n")
    print(flush=True)


def main() -> None:
    """Run the demo; exit 0 when everything worked."""
    print("$ cifarserve-server --port 0 --metrics-port 0", flush=True)
    show = lambda line: print(f"  {line[:150]}", flush=True)  # noqa: E731
    with tempfile.TemporaryDirectory() as name, running_server(show=show) as server:
        folder = Path(name)
        pictures = sample_pictures(folder)
        run_client(server, "health", folder=folder)
        run_client(server, "models", folder=folder)
        run_client(server, "predict", *(path.name for path in pictures), folder=folder)
        show_metrics(server)
    print("the server drained and exited with status 0")


if __name__ == "__main__":
    main()
