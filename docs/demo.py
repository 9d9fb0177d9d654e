"""`make demo`: start the server, classify pictures through the command line, show a few metrics, stop."""

import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread

from PIL import Image

ROOT = Path(__file__).parent.parent
SHOWN = ("cifarserve_images_total", "cifarserve_batches_total", "cifarserve_requests_total")
START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """Where the demo's server listens."""

    address: str
    metrics_url: str


@contextmanager
def running_server() -> Iterator[Server]:
    """Start the server on free ports; stop it with SIGTERM and wait for its drain."""
    command = [sys.executable, "-m", "server", "--port", "0", "--metrics-port", "0", "--device", "cpu"]
    print(f"$ cifarserve-server {' '.join(command[3:])}")
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    lines: Queue[str] = Queue()
    reader = Thread(target=_pass_on, args=(process, lines))
    reader.start()
    try:
        yield _wait_until_ready(lines)
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=60)
        reader.join()
        print(f"server drained and exited with status {status}")
    if status:
        raise SystemExit(status)


def _pass_on(process: "subprocess.Popen[str]", lines: "Queue[str]") -> None:
    assert process.stderr is not None
    for line in process.stderr:
        print(f"  {line.rstrip()[:180]}", flush=True)
        lines.put(line)
    lines.put("")


def _wait_until_ready(lines: "Queue[str]") -> Server:
    deadline = time.monotonic() + START_SECONDS
    while line := lines.get(timeout=max(0.1, deadline - time.monotonic())):
        if found := re.search(r"\] ready .*address=(\S+) metrics=(\S+)", line):
            return Server(*found.groups())
    raise SystemExit("the server ended before it was ready")


def sample_pictures(folder: Path) -> list[Path]:
    """Put a photograph of a cat (CC0, from scikit-image) and, where at hand, ten test images into `folder`."""
    from skimage import data  # a slow import

    Image.fromarray(data.chelsea()).save(folder / "cat_photo.jpg", quality=92)
    return [folder / "cat_photo.jpg", *_test_pictures(folder)]


def _test_pictures(folder: Path) -> Iterator[Path]:
    candidates = (os.environ.get("CIFAR10_DATA"), ROOT / "../shared/data", ROOT / "data")
    batches = [Path(root) / "cifar-10-batches-py" for root in candidates if root]
    batch = next((path for path in batches if (path / "test_batch").exists()), None)
    if batch is None:
        print("the CIFAR-10 data set is not at hand (CIFAR10_DATA): classifying the photograph alone")
        return
    names = pickle.loads((batch / "batches.meta").read_bytes())["label_names"]
    content = pickle.loads((batch / "test_batch").read_bytes(), encoding="latin1")
    for label, name in enumerate(names):
        place = content["labels"].index(label)
        pixels = content["data"][place].reshape(3, 32, 32).transpose(1, 2, 0)
        path = folder / f"test_{place:04}_{name}.png"
        Image.fromarray(pixels).save(path)
        yield path


def run_client(server: Server, *arguments: str, folder: Path) -> None:
    """Run the command line as a user would, and show what it prints."""
    print(f"\n$ cifarserve {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "client", *arguments]
    environment = {**os.environ, "CIFARSERVE_TARGET": server.address, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
    subprocess.run(command, check=True, cwd=folder, env=environment)


def show_metrics(server: Server) -> None:
    """Print the counters that the demo moved."""
    print(f"\n$ curl {server.metrics_url}")
    with urllib.request.urlopen(server.metrics_url) as page:
        for line in page.read().decode().splitlines():
            if line.startswith(SHOWN):
                print(line)
    print(flush=True)


def main() -> None:
    """Run the demo; exit 0 when everything worked."""
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        folder = Path(name)
        pictures = sample_pictures(folder)
        run_client(server, "health", folder=folder)
        run_client(server, "models", folder=folder)
        run_client(server, "predict", *(path.name for path in pictures), folder=folder)
        show_metrics(server)


if __name__ == "__main__":
    main()
