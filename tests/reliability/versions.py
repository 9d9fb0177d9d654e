"""Versions for tests that publish while a server serves: which weights they hold, and what these answer."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from cifarserve.v1 import classifier_pb2 as pb
from models import registry
from models.preprocessing import normalize
from tests.conftest import publish

MODEL = "quick"
PICTURES = tuple(bytes([shade]) * 3072 for shade in (0, 80, 160, 240))
REQUEST = pb.PredictRequest(images=[pb.Image(rgb=picture) for picture in PICTURES], model=MODEL, top_k=10)


def publish_version(repository: Path, version: int, *, damage: Callable[[Path], None] | None = None) -> Path:
    """Publish untrained weights that are those of `version` alone, broken by `damage`, in one step."""
    workshop = repository.with_name(f"{repository.name}-workshop")
    (workshop / MODEL / str(version - 1)).mkdir(parents=True)  # the next number is taken
    folder = publish(workshop, MODEL, seed=version)
    if damage:
        damage(folder)
    (repository / MODEL).mkdir(parents=True, exist_ok=True)
    published = folder.rename(repository / MODEL / str(version))
    shutil.rmtree(workshop)
    return published


@cache
def solo(version: int) -> torch.Tensor:
    """What the weights of `version` answer: float32 (pictures, labels), by the index of the label."""
    torch.manual_seed(version)
    network = registry.build("quick").eval()
    pixels = torch.frombuffer(bytearray(b"".join(PICTURES)), dtype=torch.uint8).reshape(-1, 32, 32, 3)
    with torch.inference_mode():
        logits: torch.Tensor = network(normalize(pixels, dtype=torch.float32))
        return logits.softmax(dim=1)


def is_of_its_version(response: pb.PredictResponse) -> bool:
    """Whether every result of a reply is what the version that it names answers, and no other's."""
    found = torch.tensor(
        [
            [prediction.probability for prediction in sorted(result.predictions, key=lambda best: best.index)]
            for result in response.results
        ]
    )
    return torch.allclose(found, solo(response.model.version), atol=1e-4)
