"""The same picture gets the same answer alone and in any batch."""

import pickle
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from tests.conftest import ROOT
from tests.reliability.conftest import Figure, Scale
from tests.server.process import running_server


def cifar10_pictures(root: Path) -> list[bytes]:
    """The 10,000 test pictures of CIFAR-10."""
    with (root / "cifar-10-batches-py/test_batch").open("rb") as file:
        planes = pickle.load(file, encoding="bytes")[b"data"].reshape(-1, 3, 32, 32)  # noqa: S301  # the data set's own format
    return [picture.tobytes() for picture in planes.transpose(0, 2, 3, 1)]


def random_pictures(count: int) -> list[bytes]:
    return [picture.tobytes() for picture in np.random.default_rng(0).integers(0, 256, (count, 3072), np.uint8)]


def random_requests(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut into requests of 1 to 64."""
    start = 0
    while start < len(numbers):
        size = random.randint(1, 64)
        yield numbers[start : start + size]
        start += size


async def probabilities(
    stub: "classifier_pb2_grpc.ClassifierServiceAsyncStub", pictures: Sequence[bytes]
) -> list[list[float]]:
    response = await stub.Predict(
        pb.PredictRequest(images=[pb.Image(rgb=picture) for picture in pictures], top_k=10)
    )  # fmt: skip
    by_label = [
        sorted((prediction.index, prediction.probability) for prediction in result.predictions)
        for result in response.results
    ]
    return [[probability for _, probability in result] for result in by_label]


@pytest.mark.parametrize("model", ["quick", "whitened"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-2)])
async def test_answer_does_not_depend_on_company(
    tmp_path: Path,
    *,
    model: str,
    precision: str,
    tolerance: float,
    scale: Scale,
    figure: Figure,
    request: pytest.FixtureRequest,
) -> None:
    """T11. Alone, and shuffled into batches of any size: the same label, and probabilities as near as the type is."""
    if not scale.full and (model, precision) != ("whitened", "bf16"):
        pytest.skip("the short run takes the default model as it is served by default")
    all_pictures = cifar10_pictures(request.getfixturevalue("cifar10_root")) if scale.full else random_pictures(200)
    pictures = all_pictures[: scale.choose(short=200, full=1000)]
    repository = tmp_path / "models"
    shutil.copytree(ROOT / "models/pretrained" / model, repository / model)
    flags = ("--repository", repository, "--precision", precision)
    async with running_server(*flags) as server, grpc.aio.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
        alone = np.array([(await probabilities(stub, [picture]))[0] for picture in pictures])
        together = np.empty_like(alone)
        shuffled = random.sample(range(len(pictures)), len(pictures))
        for numbers in random_requests(shuffled):
            together[list(numbers)] = await probabilities(stub, [pictures[number] for number in numbers])

    same = int((alone.argmax(axis=1) == together.argmax(axis=1)).sum())
    largest = float(np.abs(alone - together).max())
    assert same == len(pictures)
    assert largest <= tolerance
    figure(
        promise=f"the same picture gets the same label alone or in any batch ({model}, {precision})",
        tested=f"{len(pictures):,} pictures alone and shuffled into requests of 1 to 64",
        value=f"{same:,} of {len(pictures):,} labels equal; probabilities differ by at most {largest:.1e}",
    )
