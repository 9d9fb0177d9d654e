"""One real server for all clients that others wrote, and pictures with the answers of our own service."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from benchmarks.running import RunningServer, running_server
from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc

PICTURES = 3


@dataclass(frozen=True)
class Pictures:
    """A folder with pictures.npy (uint8, shape (3, 32, 32, 3)), 0.png to 2.png, and what they are taken for.

    Attributes:
        folder: holds the files.
        probabilities: what `ClassifierService.Predict` answers, in the order of the labels.
        best: the best label of each.
    """

    folder: Path
    probabilities: list[list[float]]
    best: list[str]


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of `quick` 2, the default, and `other` 1; a test that unloads loads again."""
    own = shutil.copytree(repository, tmp_path_factory.mktemp("interop") / "repository")
    with running_server("--repository", str(own), "--default-model", "quick", "--device", "cpu") as running:
        yield running


@pytest.fixture(scope="session")
def pictures(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (PICTURES, 32, 32, 3), dtype=np.uint8)
    np.save(folder / "pictures.npy", pixels)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number}.png")
    request = pb.PredictRequest(images=[pb.Image(rgb=picture.tobytes()) for picture in pixels], top_k=10)
    with grpc.insecure_channel(server.address) as channel:
        results = classifier_pb2_grpc.ClassifierServiceStub(channel).Predict(request, timeout=30).results
    in_order = [sorted(result.predictions, key=lambda prediction: prediction.index) for result in results]
    return Pictures(
        folder,
        probabilities=[[prediction.probability for prediction in predictions] for predictions in in_order],
        best=[result.predictions[0].label for result in results],
    )


def same(one: list[list[float]], other: list[list[float]]) -> bool:
    """Return whether two answers are equal, up to what a pass over another batch may change."""
    return all(mine == pytest.approx(theirs, abs=1e-4) for mine, theirs in zip(one, other, strict=True))
